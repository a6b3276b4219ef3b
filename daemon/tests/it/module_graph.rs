//! The rooms of a crate, which are the modules at its top, import each other in one direction. A circle fails here, with the lines that
//! close it; in the daemon a room may import only those that stand before it in [`ORDER`].

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::{fs, io};

/// The daemon's rooms from the bottom up: each may import those before it, and none after it. A room that is a crate stands here too.
const ORDER: [&str; 19] = [
    "clock",         // now
    "failure",       // an error with its hint
    "vitals",        // what a room says of itself: metrics, readiness, spans
    "config",        // the keys and their types
    "telemetry",     // what the process does with that: its log, a collector
    "media",         // pictures from elsewhere
    "source",        // records out of Kafka, offsets back
    "index",         // points: the only writer's port and its engines
    "prepare",       // pictures and texts made ready for the towers
    "dead_letters",  // letters read and sent again
    "rescore",       // candidates by the single tower
    "search",        // questions and embedding, beside it
    "pipeline",      // a record from the source to its acknowledgement
    "assemble",      // from the configuration to running parts
    "generation",    // vector spaces beside each other
    "problem",       // what a caller is told went wrong
    "api",           // over HTTP
    "rescore_topic", // over topics
    "cli",           // from a terminal
];

/// Who imports whom, and in which lines (`file:line` below the crate's `src`).
#[derive(Default)]
struct Graph(BTreeMap<(String, String), Vec<String>>);

impl Graph {
    /// Of the crate whose sources lie in `src`. What `outer` names is a room too, though it lies elsewhere.
    fn read(src: &Path, outer: &[&str]) -> io::Result<Self> {
        let mut rooms: BTreeSet<String> = outer.iter().map(|room| (*room).to_owned()).collect();
        for entry in fs::read_dir(src)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            rooms.insert(name.strip_suffix(".rs").unwrap_or(&name).to_owned());
        }
        rooms.retain(|room| !["lib", "main"].contains(&room.as_str()));
        let mut graph = Self::default();
        for file in sources(src)? {
            let inside = file.strip_prefix(src).expect("it was found below it");
            let parts: Vec<_> = inside.iter().map(|part| part.to_string_lossy()).collect();
            let room = parts[0].strip_suffix(".rs").unwrap_or(&parts[0]);
            let depth = parts.len() - usize::from(parts.len() > 1 && parts.last().is_some_and(|name| name == "mod.rs"));
            let text = without_comments(&fs::read_to_string(&file)?);
            for (line, target) in imports(&text, depth) {
                if rooms.contains(room) && rooms.contains(target) && target != room {
                    let place = format!("{}:{line}", inside.display());
                    graph.0.entry((room.to_owned(), target.to_owned())).or_default().push(place);
                }
            }
        }
        Ok(graph)
    }

    /// A shortest circle, one line an arrow; `None` where there is none.
    fn circle(&self) -> Option<String> {
        let rooms: BTreeSet<&String> = self.0.keys().map(|(from, _)| from).collect();
        let circle = rooms.into_iter().filter_map(|room| self.way_back(room)).min_by_key(Vec::len)?;
        Some(circle.windows(2).map(|arrow| self.arrow(arrow[0], arrow[1])).collect())
    }

    /// The shortest way from `room` to itself.
    fn way_back<'a>(&'a self, room: &'a String) -> Option<Vec<&'a String>> {
        let (mut ways, mut seen) = (VecDeque::from([vec![room]]), BTreeSet::new());
        while let Some(way) = ways.pop_front() {
            let last = *way.last()?;
            if way.len() > 1 && last == room {
                return Some(way);
            }
            let next = self.0.keys().filter(|(from, to)| from == last && seen.insert(to)).map(|(_, to)| to);
            ways.extend(next.map(|to| way.iter().copied().chain([to]).collect()));
        }
        None
    }

    /// Arrows from a room to one that does not stand before it in `order`.
    fn against(&self, order: &[&str]) -> String {
        let place = |room: &str| order.iter().position(|known| *known == room);
        let upward = self.0.keys().filter(|(from, to)| !matches!((place(from), place(to)), (Some(from), Some(to)) if to < from));
        upward.map(|(from, to)| self.arrow(from, to)).collect()
    }

    fn arrow(&self, from: &String, to: &String) -> String {
        format!("  {from} -> {to} in {}\n", self.0[&(from.clone(), to.clone())].join(", "))
    }
}

/// Every Rust file below `folder`.
fn sources(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(sources(&path)?);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    Ok(found)
}

/// `text` with each comment blank, and as many lines.
fn without_comments(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap_or_default()).collect::<Vec<_>>().join("\n")
}

/// Lines, and the modules at the crate's top that they name by `crate::` or by as many `super::` as a file of `depth` needs.
fn imports(text: &str, depth: usize) -> Vec<(usize, &str)> {
    let (tests, mut found) = (text.find("\nmod tests {").unwrap_or(text.len()), Vec::new());
    for (word, wanted) in [("crate::", 1), ("super::", depth)] {
        let mut from = 0;
        while let Some(at) = text[from..].find(word).map(|at| from + at) {
            let rest = text[at..].trim_start_matches(word);
            from = text.len() - rest.len();
            // The module of the tests is one deeper than its file.
            let wanted = wanted + usize::from(word == "super::" && at > tests);
            let names_inside = text[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_' || before == ':');
            if names_inside || (from - at) / word.len() != wanted {
                continue;
            }
            let line = text[..at].matches('\n').count() + 1;
            found.extend(first_names(rest).into_iter().map(|name| (line, name)));
        }
    }
    found
}

/// The first name of a path, or of each path of a group in braces.
fn first_names(path: &str) -> Vec<&str> {
    let name = |path: &str| path.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(path.len());
    let Some(group) = path.strip_prefix('{') else { return vec![&path[..name(path)]] };
    let (mut names, mut nested, mut begin) = (Vec::new(), 0_usize, 0);
    for (at, c) in group.char_indices() {
        match c {
            '{' => nested += 1,
            '}' if nested > 0 => nested -= 1,
            ',' | '}' if nested == 0 => {
                let path = group[begin..at].trim();
                names.push(&path[..name(path)]);
                begin = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    names
}

/// The repository, and its crates by their folders.
fn crates() -> (PathBuf, Vec<String>) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the daemon lies in the repository").to_owned();
    let folders = |below: &str| {
        let entries = fs::read_dir(root.join(below)).expect("a folder of the repository").flatten();
        entries.map(move |entry| Path::new(below).join(entry.file_name()).to_string_lossy().into_owned()).collect::<Vec<_>>()
    };
    let mut crates = [folders(""), folders("daemon")].concat();
    crates.retain(|name| root.join(name).join("src/lib.rs").is_file());
    crates.sort();
    (root, crates)
}

fn graph(root: &Path, name: &str) -> Graph {
    let outer: &[&str] = if name == "daemon" { &ORDER } else { &[] };
    Graph::read(&root.join(name).join("src"), outer).expect("the sources are read")
}

#[test]
fn no_rooms_of_a_crate_import_each_other_in_a_circle() {
    let (root, crates) = crates();
    assert!(
        ["daemon", "daemon/towers", "trainer", "schemas"].iter().all(|name| crates.iter().any(|found| found == name)),
        "{crates:?}"
    );
    for name in crates {
        let circle = graph(&root, &name).circle();
        assert!(circle.is_none(), "{name}: rooms in a circle; fix: cut one of these arrows\n{}", circle.unwrap_or_default());
    }
}

#[test]
fn the_daemons_rooms_import_only_those_before_them() {
    let against = graph(&crates().0, "daemon").against(&ORDER);
    assert!(against.is_empty(), "against ORDER in {}; fix: cut the arrow, or give a new room its place\n{against}", file!());
}

#[test]
fn a_planted_circle_is_found_and_its_arrows_are_named() {
    let src = tempfile::tempdir().expect("a folder");
    let plant = |name: &str, text: &str| {
        let path = src.path().join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("it is made");
        fs::write(path, text).expect("it is written");
    };
    plant("lib.rs", "mod a;\nmod b;\nmod c;\nmod d;\n");
    plant("a/mod.rs", "// crate::d::in_a_comment\nuse crate::{\n    b::{One, d},\n    c,\n};\n");
    plant("b.rs", "fn f() {}\n\nmod tests {\n    use super::d;\n    use super::super::c::Two;\n}\n");
    plant("c/deep/leaf.rs", "use super::a;\nuse super::super::a;\n");
    plant("d/mod.rs", "pub fn g() { crate::c::h(); macrocrate::a::i() }\n");
    let graph = Graph::read(src.path(), &[]).expect("the sources are read");
    assert_eq!(graph.circle(), None);
    assert_eq!(graph.against(&["c", "d", "b", "a"]), "");
    assert_eq!(graph.against(&["d", "c", "b", "a"]), "  d -> c in d/mod.rs:1\n");
    plant("c/deep/leaf.rs", "use super::a;\nuse super::super::super::a;\n");
    let circle = Graph::read(src.path(), &[]).expect("the sources are read").circle();
    assert_eq!(circle.as_deref(), Some("  a -> c in a/mod.rs:2\n  c -> a in c/deep/leaf.rs:2\n"));
}
