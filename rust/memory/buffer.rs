//! Large memory blocks.

use std::ops::{Deref, DerefMut};

use bytemuck::Pod;
use memmap2::MmapMut;

use crate::error::Error;

/// Bytes straight from the operating system: zero at first, page-aligned, in huge pages if the
/// system has them (fewer TLB misses), and returned on drop.
pub struct Buffer {
    map: MmapMut,
    len: usize,
}

impl Buffer {
    /// Allocates `len` bytes; `what` names their purpose in messages.
    ///
    /// # Errors
    /// The system does not have that much memory.
    pub fn new(len: usize, what: &str) -> Result<Self, Error> {
        let too_much = || {
            let mib = len >> 20;
            Error::OutOfMemory(format!("{what}: cannot allocate {mib} MiB of memory"))
        };
        let fits = isize::try_from(len).is_ok();
        let len = fits.then_some(len).ok_or_else(too_much)?;
        let map = MmapMut::map_anon(len.max(1)).map_err(|_| too_much())?;
        // Only advice: small pages work too. Miri has no such call.
        #[cfg(all(target_os = "linux", not(miri)))]
        let _ = map.advise(memmap2::Advice::HugePage);
        Ok(Self { map, len })
    }

    /// The bytes as values of `T`.
    ///
    /// # Panics
    /// If the length is not a multiple of the size of `T`.
    pub fn as_slice_of<T: Pod>(&self) -> &[T] {
        bytemuck::cast_slice(self)
    }

    /// The bytes as values of `T`.
    ///
    /// # Panics
    /// If the length is not a multiple of the size of `T`.
    pub fn as_mut_slice_of<T: Pod>(&mut self) -> &mut [T] {
        bytemuck::cast_slice_mut(self)
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map[..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.map[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_zeros_and_aligned() {
        for len in [0, 4, 4000] {
            let mut buffer = Buffer::new(len, "test").unwrap();
            assert_eq!(buffer.len(), len);
            assert_eq!(buffer.as_ptr() as usize % 4096, 0);
            assert!(buffer.iter().all(|&byte| byte == 0));
            let values = buffer.as_mut_slice_of::<f32>();
            assert_eq!(values.len(), len / 4);
            values.fill(1.0);
            assert!(buffer.as_slice_of::<f32>().iter().all(|&x| x == 1.0));
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri stops if there is not that much memory")]
    fn too_much_is_an_error() {
        for len in [usize::MAX, 1 << 62] {
            let message = Buffer::new(len, "activations").err().unwrap().to_string();
            assert!(message.contains("activations"), "{message}");
        }
    }
}
