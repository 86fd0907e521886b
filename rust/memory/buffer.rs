//! Large memory blocks.

use std::ops::{Deref, DerefMut};

use memmap2::MmapMut;

use crate::error::Error;

/// f32 elements straight from the operating system: zero at first, page-aligned, in huge pages if the
/// system has them (fewer TLB misses), and returned on drop.
pub struct Buffer {
    map: MmapMut,
    len: usize,
}

impl Buffer {
    /// Allocates `len` elements; `what` names their purpose in messages.
    ///
    /// # Errors
    /// The system does not have that much memory.
    pub fn new(len: usize, what: &str) -> Result<Self, Error> {
        let too_much = || {
            let mib = len / (1 << 18);
            Error::OutOfMemory(format!("{what}: cannot allocate {mib} MiB of memory"))
        };
        let bytes = len.checked_mul(4).filter(|&b| b <= isize::MAX as usize);
        let map = MmapMut::map_anon(bytes.ok_or_else(too_much)?.max(1)).map_err(|_| too_much())?;
        // Only advice: small pages work too.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        Ok(Self { map, len })
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        bytemuck::cast_slice(&self.map[..self.len * 4])
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        bytemuck::cast_slice_mut(&mut self.map[..self.len * 4])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_zeros_and_aligned() {
        for len in [0, 1, 1000] {
            let mut buffer = Buffer::new(len, "test").unwrap();
            assert_eq!(buffer.len(), len);
            assert_eq!(buffer.as_ptr() as usize % 64, 0);
            assert!(buffer.iter().all(|&x| x == 0.0));
            buffer.fill(1.0);
            assert!(buffer.iter().all(|&x| x == 1.0));
        }
    }

    #[test]
    fn too_much_is_an_error() {
        for len in [usize::MAX, 1 << 60] {
            let message = Buffer::new(len, "activations").err().unwrap().to_string();
            assert!(message.contains("activations"), "{message}");
        }
    }
}
