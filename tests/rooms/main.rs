//! The rooms of the crate: each imports only from rooms below it, and no files import in a circle.
//!
//! A room is a folder or a file directly below `rust/`. Their order is read from the drawing in
//! docs/architecture.md, floor by floor. Test modules are left out.

mod imports;
mod tokens;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use imports::{Arrow, Modules};

/// The line before the drawing.
const MARKER: &str = "<!-- rooms -->";

/// The rooms of each floor, from the top down.
type Floors = Vec<Vec<String>>;

#[test]
fn the_crate_keeps_to_the_drawing() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = BTreeMap::new();
    read(&root.join("rust"), "", &mut files);
    let drawing = fs::read_to_string(root.join("docs/architecture.md")).unwrap();
    let found = problems(&files, &floors(&drawing));
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Reads the sources below `folder` into `files`, by their paths below it.
fn read(folder: &Path, prefix: &str, files: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = format!("{prefix}{}", path.file_name().unwrap().to_str().unwrap());
        if path.is_dir() {
            read(&path, &format!("{name}/"), files);
        } else if name.ends_with(".rs") {
            files.insert(name, fs::read_to_string(&path).unwrap());
        }
    }
}

/// The rooms in the drawing of `text`: those in the box of each line.
fn floors(text: &str) -> Floors {
    let drawing = text.split_once(MARKER).expect("the drawing's marker").1;
    let drawing = drawing
        .split("```")
        .nth(1)
        .expect("a block after the marker");
    let boxes = drawing
        .lines()
        .filter_map(|line| line.strip_prefix('│')?.split('│').next());
    boxes
        .map(|rooms| rooms.split_whitespace().map(str::to_owned).collect())
        .collect()
}

/// The room of a file; None for the crate's root.
fn room(file: &str) -> Option<&str> {
    let room = file
        .split('/')
        .next()
        .unwrap_or(file)
        .trim_end_matches(".rs");
    (file != "lib.rs").then_some(room)
}

/// Everything that the sources do against the drawing.
fn problems(files: &BTreeMap<String, String>, floors: &Floors) -> Vec<String> {
    let modules = Modules::new(files);
    let arrows = modules.arrows();
    let mut problems = Vec::new();

    let drawn: BTreeSet<&str> = floors.iter().flatten().map(String::as_str).collect();
    let built: BTreeSet<&str> = modules.files().filter_map(room).collect();
    problems.extend(
        built
            .difference(&drawn)
            .map(|room| format!("room {room}: not drawn")),
    );
    problems.extend(
        drawn
            .difference(&built)
            .map(|room| format!("room {room}: drawn, not built")),
    );

    let floor = |file: &str| {
        let room = room(file)?;
        floors
            .iter()
            .position(|rooms| rooms.iter().any(|name| name == room))
    };
    for Arrow { from, to, path } in &arrows {
        // The root declares the rooms and re-exports from them.
        let Some(from_room) = room(from) else {
            continue;
        };
        let problem = match room(to) {
            None => "the crate's root, above all rooms".to_owned(),
            Some(to_room) if to_room == from_room || floor(from) < floor(to) => continue,
            Some(to_room) => format!("room {to_room}, which is not below room {from_room}"),
        };
        problems.push(format!("{from}: {path} is of {problem}"));
    }

    let inside = arrows.iter().filter(|arrow| arrow.from != "lib.rs");
    if let Some(circle) = circle(inside) {
        problems.push(format!("a circle of imports: {}", circle.join(" -> ")));
    }
    problems
}

/// The files of a circle, the first one again at the end.
fn circle<'a>(arrows: impl Iterator<Item = &'a Arrow>) -> Option<Vec<String>> {
    let mut targets: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for arrow in arrows {
        targets.entry(&arrow.from).or_default().push(&arrow.to);
    }
    let mut done = BTreeSet::new();
    let files: Vec<&str> = targets.keys().copied().collect();
    files
        .into_iter()
        .find_map(|file| visit(file, &targets, &mut Vec::new(), &mut done))
}

/// Follows the arrows from `file`; `trail` are the files on the way to it.
fn visit<'a>(
    file: &'a str,
    targets: &BTreeMap<&'a str, Vec<&'a str>>,
    trail: &mut Vec<&'a str>,
    done: &mut BTreeSet<&'a str>,
) -> Option<Vec<String>> {
    if let Some(start) = trail.iter().position(|other| *other == file) {
        let circle = trail[start..].iter().copied().chain([file]);
        return Some(circle.map(str::to_owned).collect());
    }
    if !done.insert(file) {
        return None;
    }
    trail.push(file);
    let others = targets.get(file).into_iter().flatten();
    let found = others
        .copied()
        .find_map(|other| visit(other, targets, trail, done));
    trail.pop();
    found
}

/// Small crates with planted mistakes.
mod planted {
    use super::*;

    const FLOORS: &str = "<!-- rooms -->\n\n```text\n┌──────┐\n│ roof │ all\n├──────┤\n│ left   right │\n├──────┤\n│ ground │ little\n└──────┘\n```\n";

    /// A crate of four rooms, `left` with two files, and these changes to its files.
    fn found(changes: &[(&str, &str)]) -> Vec<String> {
        let mut files: BTreeMap<String, String> = [
            (
                "lib.rs",
                "mod ground; mod left; mod right; mod roof; pub use roof::top;",
            ),
            (
                "roof.rs",
                "use crate::left::Wall;\nuse crate::{ground, right::Door as D};",
            ),
            ("left/mod.rs", "mod wall; mod window;\npub use wall::Wall;"),
            (
                "left/wall.rs",
                "use super::window::Window;\nuse crate::ground::Stone;",
            ),
            ("left/window.rs", "use std::io::{self, Read};"),
            ("right.rs", "pub struct Door;"),
            ("ground.rs", "pub struct Stone;"),
        ]
        .into_iter()
        .chain(changes.iter().copied())
        .map(|(file, text)| (file.to_owned(), text.to_owned()))
        .collect();
        files.retain(|_, text| !text.is_empty());
        problems(&files, &floors(FLOORS))
    }

    #[track_caller]
    fn assert_found(changes: &[(&str, &str)], fragments: &[&str]) {
        let found = found(changes).join("\n");
        for fragment in fragments {
            assert!(found.contains(fragment), "{found:?} lacks {fragment:?}");
        }
    }

    #[test]
    fn a_good_crate_has_no_problems() {
        assert_eq!(found(&[]), [""; 0]);
    }

    #[test]
    fn arrows_up_and_sideways_are_found() {
        let up = "ground.rs: crate::roof::top is of room roof, which is not below room ground";
        assert_found(&[("ground.rs", "use crate::roof::top;")], &[up]);
        assert_found(
            &[("ground.rs", "fn f() { crate::roof::top::<u8>() }")],
            &[up],
        );
        assert_found(
            &[("ground.rs", "use {super::roof::top};")],
            &["super::roof::top is of room roof"],
        );
        assert_found(
            &[("right.rs", "use crate::{left::{self}, ground};")],
            &["crate::left is of room left"],
        );
        assert_found(
            &[("left/wall.rs", "type T = super::super::right::Door;")],
            &["of room right"],
        );
        assert_found(
            &[("ground.rs", "use crate::top;")],
            &["crate::top is of the crate's root"],
        );
    }

    #[test]
    fn circles_of_files_are_found() {
        let direct = ("left/window.rs", "fn f(_: super::wall::Wall) {}");
        assert_found(
            &[direct],
            &["left/wall.rs -> left/window.rs -> left/wall.rs"],
        );
        let by_parent = ("left/wall.rs", "use super::Wall;");
        assert_found(
            &[by_parent],
            &["left/mod.rs -> left/wall.rs -> left/mod.rs"],
        );
        let by_glob = ("left/wall.rs", "use super::*;");
        assert_found(&[by_glob], &["left/mod.rs -> left/wall.rs -> left/mod.rs"]);
    }

    #[test]
    fn rooms_and_drawing_are_the_same() {
        let all = "mod cellar; mod ground; mod left; mod right; mod roof;";
        assert_found(
            &[("lib.rs", all), ("cellar.rs", "//")],
            &["room cellar: not drawn"],
        );
        let fewer = [
            ("lib.rs", "mod ground; mod left; mod right;"),
            ("roof.rs", ""),
        ];
        assert_found(&fewer, &["room roof: drawn, not built"]);
    }

    #[test]
    fn tests_comments_strings_and_visibilities_are_no_imports() {
        let text = r##"
            //! [`crate::roof::top`]
            /* use crate::roof::top; /* nested */ use crate::roof; */
            pub(in crate::roof) fn f<'a>(_: &'a str) -> char { "crate::roof::top"; '"' }
            const RAW: &str = r#"use crate::roof::top;"#;
            #[cfg(test)]
            use crate::roof::{top, other};
            #[cfg(all(test, unix))]
            #[allow(unused)]
            mod tests { use crate::roof::top; fn f() {} }
            #[cfg(test)]
            mod more;
            pub struct Stone;
        "##;
        assert_eq!(found(&[("ground.rs", text)]), [""; 0]);
        // Code after them is read again.
        let more = format!("{text} use crate::roof::top;");
        assert_found(&[("ground.rs", more.as_str())], &["room roof"]);
    }
}
