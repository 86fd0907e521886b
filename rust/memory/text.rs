//! Text files of numbers.

use std::path::Path;

use super::file;
use crate::error::Error;

/// The most bytes of a word that a message shows.
const SHOWN: usize = 40;

/// Reads the numbers of a text file, separated by white space, each rounded to f32 once.
///
/// # Errors
/// The file cannot be read, or a word is not a finite number; the message names the line.
pub fn read_numbers(path: &Path) -> Result<Vec<f32>, Error> {
    let Some(map) = file::map(path)? else {
        return Ok(Vec::new());
    };
    let mut numbers = Vec::new();
    for (i, line) in map.split(|&byte| byte == b'\n').enumerate() {
        for word in line
            .split(u8::is_ascii_whitespace)
            .filter(|w| !w.is_empty())
        {
            let number = str::from_utf8(word).ok().and_then(|w| w.parse().ok());
            match number {
                Some(number) if f32::is_finite(number) => numbers.push(number),
                _ => {
                    let word = String::from_utf8_lossy(&word[..word.len().min(SHOWN)]);
                    return Err(Error::weights(
                        path,
                        format!("line {}: expected a finite number, found {word:?}", i + 1),
                    ));
                }
            }
        }
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn read(text: &[u8]) -> Result<Vec<f32>, Error> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("numbers.txt");
        fs::write(&path, text).unwrap();
        read_numbers(&path)
    }

    #[test]
    fn numbers_are_rounded_once() {
        let text = b"1.000000059604644776e+00\n-2.5 3\r\n\n  1e-3\t0\n";
        assert_eq!(read(text).unwrap(), [1.000_000_1, -2.5, 3.0, 1e-3, 0.0]);
        assert!(read(b"").unwrap().is_empty());
    }

    #[test]
    fn a_word_that_is_not_a_number_is_named_with_its_line() {
        for (text, fragments) in [
            (&b"1\n2\nx7\n"[..], ["line 3", "x7"]),
            (b"1\nnan\n", ["line 2", "nan"]),
            (b"1e99", ["line 1", "1e99"]),
            (b"1\n\xff\xfe", ["line 2", "finite"]),
        ] {
            let message = read(text).unwrap_err().to_string();
            for fragment in fragments {
                assert!(message.contains(fragment), "{message} lacks {fragment}");
            }
        }
    }
}
