//! The last checkpoints of a run beside its newest.

use std::path::{Path, PathBuf};

use super::native::{MODEL_FILE, STATE_FILE};

/// Folder of kept checkpoints inside a run's folder; one `step-N` folder each.
pub const CHECKPOINTS_FOLDER: &str = "checkpoints";

/// Keeps the newest model and state as `checkpoints/step-N`, and only the `last` of such folders. The files are hard links: the next
/// checkpoint replaces the newest by a rename, so what was linked stays.
///
/// # Errors
/// The file system refuses.
pub fn keep_checkpoint(run: &Path, step: u64, last: usize) -> std::io::Result<()> {
    let folder = run.join(CHECKPOINTS_FOLDER);
    let own = folder.join(format!("step-{step:08}"));
    let staged = folder.join(format!(".step-{step:08}.{}", std::process::id()));
    std::fs::create_dir_all(&staged)?;
    for name in [MODEL_FILE, STATE_FILE] {
        let (from, to) = (run.join(name), staged.join(name));
        if std::fs::hard_link(&from, &to).is_err() {
            std::fs::copy(&from, &to)?;
        }
    }
    if own.exists() {
        std::fs::remove_dir_all(&own)?;
    }
    std::fs::rename(&staged, &own)?;
    for old in kept_checkpoints(run)?.iter().rev().skip(last) {
        std::fs::remove_dir_all(old)?;
    }
    Ok(())
}

/// Folders of kept checkpoints, oldest first.
///
/// # Errors
/// The folder is there but can't be read.
pub fn kept_checkpoints(run: &Path) -> std::io::Result<Vec<PathBuf>> {
    let folder = run.join(CHECKPOINTS_FOLDER);
    if !folder.exists() {
        return Ok(Vec::new());
    }
    let mut kept: Vec<PathBuf> = std::fs::read_dir(folder)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("step-")))
        .collect();
    kept.sort();
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_checkpoints_stay_as_they_were_and_older_ones_go() {
        let run = tempfile::tempdir().unwrap();
        for step in [100, 200, 300] {
            for name in [MODEL_FILE, STATE_FILE] {
                // As a checkpoint is written: a new file renamed over the old one.
                let temporary = run.path().join("new");
                std::fs::write(&temporary, format!("{name} {step}")).unwrap();
                std::fs::rename(&temporary, run.path().join(name)).unwrap();
            }
            keep_checkpoint(run.path(), step, 2).unwrap();
        }
        let kept = kept_checkpoints(run.path()).unwrap();
        let names: Vec<&str> = kept.iter().map(|path| path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["step-00000200", "step-00000300"]);
        assert_eq!(std::fs::read_to_string(kept[0].join(MODEL_FILE)).unwrap(), format!("{MODEL_FILE} 200"));
    }
}
