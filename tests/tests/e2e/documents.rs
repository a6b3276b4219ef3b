//! The documents hold together: links lead somewhere, what the code cites is there, and the two pages that everybody reads stay short.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use astromech_e2e::paths::repository;

/// Lines of the pages that are read whole.
const LINES_MAX: [(&str, usize); 2] = [("README.md", 150), ("ARCHITECTURE.md", 200)];

/// Files that git tracks or would, whose names end so.
fn files(ends: &[&str]) -> Vec<String> {
    let listed = ["ls-files", "--cached", "--others", "--exclude-standard"];
    let output = Command::new("git").args(listed).current_dir(repository()).output().expect("git starts");
    assert!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    let all = String::from_utf8(output.stdout).expect("names in UTF-8");
    let wanted = all.lines().filter(|name| ends.iter().any(|end| name.ends_with(end)) && repository().join(name).is_file());
    wanted.map(str::to_owned).collect()
}

fn read(name: &str) -> String {
    std::fs::read_to_string(repository().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The text without fenced blocks, where brackets are code.
fn prose(text: &str) -> String {
    let mut fenced = false;
    let mut kept = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

/// Targets of `[text](target)`.
fn links(text: &str) -> Vec<String> {
    let behind = text.split("](").skip(1);
    behind.filter_map(|rest| rest.split_once(')')).map(|(target, _)| target.to_owned()).collect()
}

/// The anchors that a page has on GitHub: its headings in small letters, blanks as hyphens, without other signs.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings =
        text.lines().filter(|line| line.starts_with('#')).map(|line| line.trim_start_matches('#').trim().to_lowercase());
    let slug = |heading: String| -> String {
        let kept = heading.chars().filter(|c| c.is_alphanumeric() || [' ', '-', '_'].contains(c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    };
    headings.map(slug).collect()
}

/// A path with its `..` resolved by name.
fn tidy(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut tidied, part| {
        if part.as_os_str() == ".." {
            tidied.pop()
        } else {
            tidied.push(part);
            true
        };
        tidied
    })
}

#[test]
fn every_link_of_every_page_leads_to_a_file_and_its_anchor_to_a_heading() {
    let pages: BTreeMap<_, _> = files(&[".md"]).into_iter().map(|name| (name.clone(), prose(&read(&name)))).collect();
    assert!(pages.len() > 15, "{pages:?}");
    let mut broken = Vec::new();
    let mut looked_at = 0;
    for (page, text) in &pages {
        for link in links(text).into_iter().filter(|link| !link.contains("://")) {
            looked_at += 1;
            let (file, anchor) = link.split_once('#').map_or((link.as_str(), None), |(file, anchor)| (file, Some(anchor)));
            let folder = Path::new(page).parent().expect("a file has a folder");
            let target = if file.is_empty() { PathBuf::from(page) } else { tidy(&folder.join(file)) };
            let name = target.to_string_lossy().into_owned();
            let there = repository().join(&target).exists();
            let heading = anchor.is_none_or(|anchor| pages.get(&name).is_some_and(|text| anchors(text).contains(anchor)));
            if !there || !heading {
                broken.push(format!("{page}: {link}"));
            }
        }
    }
    assert!(broken.is_empty(), "links that lead nowhere: {broken:#?}");
    assert!(looked_at > 80, "{looked_at} links");
}

#[test]
fn every_page_below_docs_is_reached_by_links_from_the_readme() {
    let mut reached = BTreeSet::from(["README.md".to_owned()]);
    let mut open = vec!["README.md".to_owned()];
    while let Some(page) = open.pop() {
        let folder = Path::new(&page).parent().expect("a file has a folder").to_owned();
        let found = links(&prose(&read(&page))).into_iter().filter_map(|link| link.split('#').next().map(str::to_owned));
        for link in
            found.filter(|link| Path::new(link).extension().is_some_and(|extension| extension == "md") && !link.contains("://"))
        {
            let name = tidy(&folder.join(link)).to_string_lossy().into_owned();
            if reached.insert(name.clone()) {
                open.push(name);
            }
        }
    }
    let lost: Vec<_> = files(&[".md"]).into_iter().filter(|name| name.starts_with("docs/") && !reached.contains(name)).collect();
    assert!(lost.is_empty(), "pages that no link leads to: {lost:?}");
}

#[test]
fn the_pages_that_are_read_whole_are_short() {
    for (page, most) in LINES_MAX {
        let lines = read(page).lines().count();
        assert!(
            lines <= most,
            "{page} has {lines} lines, at most {most}: move what is not for every reader to a page of its own"
        );
    }
}

#[test]
fn every_section_of_docs_r2d2_that_the_code_cites_is_there() {
    let text = read("docs/R2D2.md");
    let headings = text.lines().filter(|line| line.starts_with("##"));
    let number = |line: &str| line.trim_start_matches('#').split_whitespace().next().map(|n| n.trim_end_matches('.').to_owned());
    let sections: BTreeSet<_> = headings.filter_map(number).collect();
    let mut cited = BTreeMap::new();
    for file in files(&[".rs", ".toml"]) {
        for citation in read(&file).to_lowercase().split("r2d2.md").skip(1) {
            // `§3.4`, `§2.1, §2.4`, `§1.2, §1.4`: as far as signs go on.
            let signs = citation.split_terminator(|c: char| c.is_alphabetic() || ")(;:".contains(c)).next().unwrap_or_default();
            for section in signs.split('§').skip(1) {
                let section: String = section.chars().take_while(|c| c.is_ascii_digit() || *c == '.').collect();
                cited.insert(section.trim_end_matches('.').to_owned(), file.clone());
            }
        }
    }
    assert!(cited.len() > 20, "{cited:?}");
    let gone: Vec<_> = cited.iter().filter(|(section, _)| !sections.contains(*section)).collect();
    assert!(gone.is_empty(), "sections that docs/R2D2.md does not have: {gone:?}");
}

#[test]
fn the_rows_of_the_limits_that_are_printed_from_the_configuration_are_marked() {
    let text = read("docs/LIMITS.md");
    let (_, printed) = text.split_once("<!-- generated: configuration keys -->\n").expect("where they begin");
    let (printed, behind) = printed.split_once("<!-- end -->\n").expect("where they end");
    assert!(printed.lines().count() > 30 && printed.lines().all(|line| line.starts_with('|')), "{printed}");
    assert!(!behind.contains("<!--"), "{behind}");
}

#[test]
fn every_file_that_a_page_names_by_its_path_is_there() {
    let tops = ["daemon/", "schemas/", "trainer/", "tests/", "configs/", "deploy/", "docs/"];
    let ends = [".rs", ".toml", ".sh", ".md", ".yaml", ".yml", ".json"];
    let (mut looked_at, mut gone) = (0, Vec::new());
    for page in files(&[".md"]) {
        let text = prose(&read(&page));
        let quoted = text.split('`').skip(1).step_by(2);
        let is_path = |word: &&str| {
            let plain = word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "/._-".contains(c));
            plain && tops.iter().any(|top| word.starts_with(top)) && ends.iter().any(|end| word.ends_with(end))
        };
        for path in quoted.filter(is_path) {
            looked_at += 1;
            if !repository().join(path).is_file() {
                gone.push(format!("{page}: {path}"));
            }
        }
    }
    assert!(gone.is_empty(), "files that are gone: {gone:#?}");
    assert!(looked_at > 15, "{looked_at} paths");
}

#[test]
fn every_test_that_the_page_of_faults_names_is_there() {
    let page = read("docs/FAULTS.md");
    let rows = page.lines().filter(|line| line.starts_with("| ")).skip(1);
    let named: Vec<&str> = rows
        .filter_map(|row| row.trim_end_matches(" |").rsplit(" | ").next())
        .flat_map(|tests| tests.split('`').skip(1).step_by(2))
        .collect();
    assert!(named.len() > 15, "{named:?}");
    let code: String = files(&[".rs"]).iter().map(|name| read(name)).collect();
    let gone: Vec<_> = named.iter().filter(|name| !code.contains(&format!("fn {name}("))).collect();
    assert!(gone.is_empty(), "no tests of these names: {gone:?}");
}
