//! Text files of numbers.

use std::path::Path;

use super::file::InputFile;
use crate::error::Error;

/// The most bytes of a word that a message shows.
const SHOWN: usize = 40;

/// The most bytes of a word: no number is longer.
const LONGEST: usize = 1 << 12;

/// Bytes that are read at once.
const PIECE: usize = 1 << 16;

/// Reads the numbers of a text file, separated by white space, each rounded to f32 once.
///
/// # Errors
/// The file cannot be read or changes meanwhile, the numbers do not fit in memory, or a word is not a finite
/// number; the message names the line.
pub fn read_numbers(path: &Path) -> Result<Vec<f32>, Error> {
    let file = InputFile::open(path)?;
    let mut numbers = Vec::new();
    let mut piece = [0; PIECE];
    // The bytes of a word that reaches over the end of a piece come before the next piece.
    let (mut at, mut kept, mut line) = (0, 0, 1);
    loop {
        let left = usize::try_from(file.len() - at).unwrap_or(usize::MAX);
        let read = left.min(PIECE - kept);
        file.read_at(at, &mut piece[kept..kept + read])?;
        at += read as u64;
        let bytes = &piece[..kept + read];
        let is_last = at == file.len();
        let whole = match is_last {
            true => bytes.len(),
            false => bytes.iter().rposition(u8::is_ascii_whitespace).unwrap_or(0),
        };
        numbers
            .try_reserve(whole / 2 + 1)
            .map_err(|e| Error::OutOfMemory(format!("{}: {e}", path.display())))?;
        for word in bytes[..whole].split_inclusive(u8::is_ascii_whitespace) {
            let text = word.trim_ascii();
            if !text.is_empty() {
                numbers.push(number(text).ok_or_else(|| not_finite(path, line, text))?);
            }
            line += usize::from(word.ends_with(b"\n"));
        }
        if is_last {
            file.check_unchanged()?;
            return Ok(numbers);
        }
        if bytes.len() - whole > LONGEST {
            return Err(not_finite(path, line, &bytes[whole..]));
        }
        kept = bytes.len() - whole;
        piece.copy_within(whole..whole + kept, 0);
    }
}

fn number(word: &[u8]) -> Option<f32> {
    let number: f32 = str::from_utf8(word).ok()?.parse().ok()?;
    number.is_finite().then_some(number)
}

fn not_finite(path: &Path, line: usize, word: &[u8]) -> Error {
    let word = String::from_utf8_lossy(&word[..word.len().min(SHOWN)]);
    Error::weights(
        path,
        format!("line {line}: expected a finite number, found {word:?}"),
    )
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
    fn words_reach_over_the_end_of_a_piece() {
        // Pieces end inside words of 7 bytes, after them, and after white space.
        for shift in 0..9 {
            let mut text = vec![b' '; shift];
            (0..30_000).for_each(|i| text.extend(format!("{}\n", 100_000 + i).bytes()));
            let numbers = read(&text).unwrap();
            let expected = (0..30_000).map(|i| (100_000 + i) as f32);
            assert!(numbers.iter().copied().eq(expected), "{shift}");
            text.extend(b"nan");
            let message = read(&text).unwrap_err().to_string();
            assert!(message.contains("line 30001"), "{message}");
        }
    }

    #[test]
    fn a_word_longer_than_any_number_is_an_error() {
        for len in [LONGEST + 1, PIECE + 1, 3 * PIECE] {
            let message = read(&vec![b'1'; len]).unwrap_err().to_string();
            assert!(message.contains("line 1") && message.len() < 300, "{len}");
        }
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
