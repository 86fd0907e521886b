//! The crate's modules, and the arrows between their files.

use std::collections::{BTreeMap, BTreeSet};

use super::tokens::{tokens, without_tests};

/// A module's path from the crate's root, which is empty.
type Path = Vec<String>;

/// A module that is a file, and its tokens.
struct Module {
    file: String,
    tokens: Vec<String>,
}

/// The modules of a crate, those for tests left out.
pub struct Modules(BTreeMap<Path, Module>);

/// An import: its file, its target's file, and its path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Arrow {
    pub from: String,
    pub to: String,
    pub path: String,
}

impl Modules {
    /// Follows the `mod` declarations from `lib.rs`.
    ///
    /// - `files`: the sources by their paths below the crate's folder.
    pub fn new(files: &BTreeMap<String, String>) -> Self {
        let mut modules = BTreeMap::new();
        let mut open = vec![Path::new()];
        while let Some(path) = open.pop() {
            let file = match path.join("/") {
                root if root.is_empty() => "lib.rs".to_owned(),
                name if files.contains_key(&format!("{name}.rs")) => format!("{name}.rs"),
                name => format!("{name}/mod.rs"),
            };
            let source = files.get(&file);
            let source = source.unwrap_or_else(|| panic!("{file}: declared, not found"));
            let tokens = without_tests(&tokens(source));
            for pair in tokens.windows(3).filter(|tokens| tokens[0] == "mod") {
                match pair[2].as_str() {
                    ";" => open.push([&path[..], &pair[1..2]].concat()),
                    other => panic!(
                        "{file}: mod {} {other}: inline modules are for tests",
                        pair[1]
                    ),
                }
            }
            modules.insert(path, Module { file, tokens });
        }
        Self(modules)
    }

    /// The files.
    pub fn files(&self) -> impl Iterator<Item = &str> {
        self.0.values().map(|module| module.file.as_str())
    }

    /// Every arrow from one file to another.
    pub fn arrows(&self) -> BTreeSet<Arrow> {
        let arrows = self.0.iter().flat_map(|(path, module)| {
            let imports = paths(&module.tokens).into_iter();
            imports.filter_map(|import| {
                let target = self.resolve(path, &import)?;
                let to = &self.0[&target].file;
                (*to != module.file).then(|| Arrow {
                    from: module.file.clone(),
                    to: to.clone(),
                    path: import.join("::"),
                })
            })
        });
        arrows.collect()
    }

    /// The module that `import`, in module `from`, takes its item from; None for other crates.
    fn resolve(&self, from: &[String], import: &[String]) -> Option<Path> {
        let mut import = import.iter().peekable();
        let mut target = match import.peek()?.as_str() {
            "crate" => Path::new(),
            "self" | "super" => from.to_vec(),
            child => {
                let child = [from, &[child.to_owned()]].concat();
                return self
                    .0
                    .contains_key(&child)
                    .then(|| self.descend(from.to_vec(), import));
            }
        };
        while let Some(segment) =
            import.next_if(|s| ["crate", "self", "super"].contains(&s.as_str()))
        {
            if segment == "super" {
                target.pop();
            }
        }
        Some(self.descend(target, import))
    }

    /// From module `target` along `segments` as long as they are modules.
    fn descend<'a>(&self, mut target: Path, segments: impl Iterator<Item = &'a String>) -> Path {
        for segment in segments {
            target.push(segment.clone());
            if !self.0.contains_key(&target) {
                target.pop();
                break;
            }
        }
        target
    }
}

/// The paths of several segments, and those of `use` declarations.
fn paths(tokens: &[String]) -> Vec<Path> {
    let mut paths = Vec::new();
    let mut i = 0;
    while i < tokens.len() {
        let token = |at: usize| tokens.get(at).map_or("", String::as_str);
        if token(i) == "use" {
            i += 1;
            use_tree(tokens, &mut i, &[], &mut paths);
        } else if token(i) == "(" && token(i + 1) == "in" && i > 0 && token(i - 1) == "pub" {
            // A visibility, not an import.
            i += 2;
            while token(i) != ")" && i < tokens.len() {
                i += 1;
            }
        } else if token(i + 1) == "::" && is_identifier(token(i)) {
            let mut path = vec![tokens[i].clone()];
            while token(i + 1) == "::" && is_identifier(token(i + 2)) {
                path.push(tokens[i + 2].clone());
                i += 2;
            }
            i += 1;
            paths.push(path);
        } else {
            i += 1;
        }
    }
    paths
}

fn is_identifier(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Reads a tree of a `use` declaration, from token `i` to the one after it.
fn use_tree(tokens: &[String], i: &mut usize, prefix: &[String], paths: &mut Vec<Path>) {
    let mut path = prefix.to_vec();
    loop {
        match tokens.get(*i).map_or(";", String::as_str) {
            "{" => {
                *i += 1;
                while tokens[*i] != "}" {
                    use_tree(tokens, i, &path, paths);
                    *i += usize::from(tokens[*i] == ",");
                }
                *i += 1;
                return;
            }
            "::" => *i += 1,
            "as" => *i += 2,
            ";" | "," | "}" => {
                paths.push(path);
                return;
            }
            // A whole module: that of the path before it.
            "*" => *i += 1,
            "self" if !path.is_empty() => *i += 1,
            segment => {
                path.push(segment.to_owned());
                *i += 1;
            }
        }
    }
}
