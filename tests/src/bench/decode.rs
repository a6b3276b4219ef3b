//! Decoding and resizing on one core, against Pillow on one core over the same files in the same minute.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use astromech_e2e::paths;
use astromech_towers::{ImageLimits, decode_and_squash};

use crate::Setting;
use crate::table::{Table, rate};

const PILLOW_VERSION: &str = "13.0.0";
/// Each side is measured this often, in turn.
const ROUNDS: usize = 3;
/// Longest pass over a folder.
const PASS: Duration = Duration::from_secs(3);
/// What the official models take, pixels.
const OFFICIAL_SIZE: u32 = 224;
const SCRIPT: &str = include_str!("pillow.py");

/// A Python with Pillow, in the cache.
fn python() -> Result<PathBuf, String> {
    let folder = paths::cache().join("bench/pillow").join(PILLOW_VERSION);
    let python = folder.join("bin/python");
    let run = |command: &mut Command| {
        let status = command.status().map_err(|e| format!("{command:?}: {e}"))?;
        if status.success() { Ok(()) } else { Err(format!("{command:?}: {status}")) }
    };
    if !folder.join("complete").is_file() {
        run(Command::new("python3").args(["-m", "venv"]).arg(&folder))?;
        run(Command::new(&python)
            .args(["-m", "pip", "install", "-q", "--disable-pip-version-check"])
            .arg(format!("pillow=={PILLOW_VERSION}")))?;
        std::fs::write(folder.join("complete"), "").map_err(|e| e.to_string())?;
    }
    Ok(python)
}

fn pillow(python: &Path, args: &[&str]) -> Result<String, String> {
    let output =
        Command::new(python).arg("-c").arg(SCRIPT).args(args).output().map_err(|e| format!("{}: {e}", python.display()))?;
    let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if output.status.success() {
        Ok(said)
    } else {
        Err(format!("pillow.py {args:?}: {}", String::from_utf8_lossy(&output.stderr)))
    }
}

/// Pictures a second of our own over the files of `folder`, read beforehand, on this thread.
fn ours(folder: &Path, size: u32) -> Result<f64, String> {
    let files = std::fs::read_dir(folder).map_err(|e| format!("{}: {e}", folder.display()))?.flatten();
    let files: Vec<_> = files.map(|entry| std::fs::read(entry.path()).map_err(|e| e.to_string())).collect::<Result<_, _>>()?;
    let limits = ImageLimits::default();
    let (began, mut pictures) = (Instant::now(), 0_u32);
    for bytes in files.iter().cycle() {
        decode_and_squash(bytes, size, &limits).map_err(|e| e.to_string())?;
        pictures += 1;
        if pictures as usize >= files.len() && began.elapsed() > PASS {
            break;
        }
    }
    Ok(f64::from(pictures) / began.elapsed().as_secs_f64())
}

pub(crate) fn run(setting: &Setting) -> Result<String, String> {
    let python = python()?;
    let sets = paths::cache().join("bench/pictures");
    let demo = astromech_e2e::corpus::corpus().entries[0].picture.parent().expect("a file lies in a folder").to_owned();
    pillow(&python, &["make", &demo.to_string_lossy(), &sets.to_string_lossy()])?;
    let head = ["pictures", "to, px", "Pillow, pictures/s", "with draft", "astromech, pictures/s", "ratio", "to draft"];
    let mut table = Table::new(format!("Decode and resize, one core, against Pillow {PILLOW_VERSION}"), &head);
    let bundle = setting.bundle.manifest.image.size;
    for (name, size) in [("demo set as it is", bundle), ("800x600 JPEG", OFFICIAL_SIZE), ("4000x3000 JPEG", OFFICIAL_SIZE)] {
        let folder = sets.join(name);
        let time = |draft: &[&str]| {
            let folder = folder.to_string_lossy();
            let (size, pass) = (size.to_string(), PASS.as_secs().to_string());
            let mut args = vec!["time", &*folder, size.as_str(), pass.as_str()];
            args.extend(draft);
            let said = pillow(&python, &args)?;
            said.parse::<f64>().map_err(|e| format!("{said}: {e}"))
        };
        let (mut theirs, mut drafts, mut mine) = (0.0, 0.0, 0.0);
        for _ in 0..ROUNDS {
            theirs += time(&[])? / ROUNDS as f64;
            drafts += time(&["draft"])? / ROUNDS as f64;
            mine += ours(&folder, size)? / ROUNDS as f64;
        }
        let ratios = [mine / theirs, mine / drafts].map(|ratio| format!("{ratio:.2}"));
        let figures = [size.to_string(), rate(theirs), rate(drafts), rate(mine)];
        table.row([name.to_owned()].into_iter().chain(figures).chain(ratios).collect());
    }
    Ok(table.to_markdown())
}
