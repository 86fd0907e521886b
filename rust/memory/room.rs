//! Room for small allocations.
//!
//! Memory whose size comes from a file or a network is asked for in ways that can fail. The many small
//! pieces around it cannot fail without ending the process, so the room for them is checked before.

use super::buffer::Buffer;
use crate::error::Error;

/// Room for the pieces whose number does not depend on anything large.
pub const SMALL: usize = 4 << 20;

/// Checks that `bytes` more bytes can be allocated now. They are not touched, and free afterwards.
///
/// # Errors
/// The system does not have that much memory; `what` names its purpose.
pub fn check(bytes: usize, what: &str) -> Result<(), Error> {
    Buffer::new(bytes, what).map(drop)
}

/// Makes room for `len` elements in all.
///
/// # Errors
/// The system does not have that much memory; `what` names its purpose.
pub fn reserve<T>(values: &mut Vec<T>, len: usize, what: &str) -> Result<(), Error> {
    values
        .try_reserve_exact(len.saturating_sub(values.len()))
        .map_err(|e| Error::OutOfMemory(format!("{what}: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg_attr(miri, ignore = "Miri stops if there is not that much memory")]
    fn too_much_is_an_error_that_names_its_purpose() {
        check(SMALL, "test").unwrap();
        let message = check(1 << 62, "a plan").unwrap_err().to_string();
        assert!(message.contains("a plan"), "{message}");
        let mut values = vec![1_u32];
        reserve(&mut values, 10, "test").unwrap();
        assert!(values.capacity() >= 10 && values == [1]);
        let message = reserve(&mut values, usize::MAX, "numbers").unwrap_err();
        assert!(message.to_string().contains("numbers"), "{message}");
    }
}
