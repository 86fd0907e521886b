//! Rust source as tokens: as much of the language as its imports need.

/// The tokens of `source` without comments, strings, characters and lifetimes: identifiers, numbers,
/// `::`, and single characters for everything else.
pub fn tokens(source: &str) -> Vec<String> {
    let chars: Vec<char> = source.chars().collect();
    let mut tokens = Vec::new();
    let mut i = 0;
    while i < chars.len() {
        let rest = &chars[i..];
        i += if rest.starts_with(&['/', '/']) {
            until(rest, '\n')
        } else if rest.starts_with(&['/', '*']) {
            block_comment(rest)
        } else if let Some(len) = raw_string(rest) {
            len
        } else if rest[0] == '"' {
            quoted(rest, '"')
        } else if rest[0] == '\'' {
            character_or_lifetime(rest)
        } else if is_word(rest[0]) {
            let len = rest.iter().take_while(|&&c| is_word(c)).count();
            tokens.push(rest[..len].iter().collect());
            len
        } else if rest.starts_with(&[':', ':']) {
            tokens.push("::".into());
            2
        } else {
            if !rest[0].is_whitespace() {
                tokens.push(rest[0].into());
            }
            1
        };
    }
    tokens
}

/// Removes items that are compiled for tests only.
pub fn without_tests(tokens: &[String]) -> Vec<String> {
    let mut kept = Vec::new();
    let mut i = 0;
    while i < tokens.len() {
        match attribute(&tokens[i..]) {
            Some(len) if is_for_tests(&tokens[i..i + len]) => {
                i += len;
                while let Some(len) = attribute(&tokens[i..]) {
                    i += len;
                }
                i += item(&tokens[i..]);
            }
            _ => {
                kept.push(tokens[i].clone());
                i += 1;
            }
        }
    }
    kept
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The length up to `end`, or of everything.
fn until(chars: &[char], end: char) -> usize {
    chars.iter().position(|&c| c == end).unwrap_or(chars.len())
}

/// The length of a block comment, which may hold others.
fn block_comment(chars: &[char]) -> usize {
    let (mut depth, mut i) = (0, 0);
    while i < chars.len() {
        match chars[i..] {
            ['/', '*', ..] => (depth, i) = (depth + 1, i + 2),
            ['*', '/', ..] => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
        if depth == 0 {
            break;
        }
    }
    i
}

/// The length of `r"..."`, `r#"..."#` and so on, if `chars` starts with one.
fn raw_string(chars: &[char]) -> Option<usize> {
    let prefix = match chars {
        ['r', '"' | '#', ..] => 1,
        ['b' | 'c', 'r', '"' | '#', ..] => 2,
        _ => return None,
    };
    let hashes = chars[prefix..].iter().take_while(|&&c| c == '#').count();
    let open = prefix + hashes + 1;
    if chars.get(open - 1) != Some(&'"') {
        return None;
    }
    let end: Vec<char> = std::iter::once('"')
        .chain(std::iter::repeat_n('#', hashes))
        .collect();
    let body = chars[open..].windows(end.len());
    let len = body.clone().take_while(|window| *window != end).count();
    Some(open + len + end.len())
}

/// The length of a literal between `quote`s.
fn quoted(chars: &[char], quote: char) -> usize {
    let mut i = 1;
    while i < chars.len() && chars[i] != quote {
        i += if chars[i] == '\\' { 2 } else { 1 };
    }
    i + 1
}

/// The length of `'x'` or `'\n'`; of a lifetime only the apostrophe and its name.
fn character_or_lifetime(chars: &[char]) -> usize {
    match chars {
        ['\'', '\\', ..] | ['\'', _, '\'', ..] => quoted(chars, '\''),
        _ => 1 + chars[1..].iter().take_while(|&&c| is_word(c)).count(),
    }
}

/// The length of an attribute, if `tokens` starts with one.
fn attribute(tokens: &[String]) -> Option<usize> {
    (tokens.len() > 1 && tokens[0] == "#" && tokens[1] == "[").then(|| 1 + group(&tokens[1..]))
}

fn is_for_tests(attribute: &[String]) -> bool {
    let has = |word: &str| attribute.iter().any(|token| token == word);
    has("cfg") && has("test") && !has("not") && !has("any")
}

/// The length of a group in brackets, with them.
fn group(tokens: &[String]) -> usize {
    let mut depth = 0;
    for (i, token) in tokens.iter().enumerate() {
        match token.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return i + 1;
        }
    }
    tokens.len()
}

/// The length of an item: up to its semicolon, or to the end of its braces.
fn item(tokens: &[String]) -> usize {
    let ends_with_braces = !tokens.iter().take(3).any(|token| token == "use");
    let mut i = 0;
    while i < tokens.len() {
        match tokens[i].as_str() {
            ";" => return i + 1,
            "{" if ends_with_braces => return i + group(&tokens[i..]),
            "(" | "[" | "{" => i += group(&tokens[i..]),
            _ => i += 1,
        }
    }
    i
}
