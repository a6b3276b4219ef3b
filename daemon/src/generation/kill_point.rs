//! Named points of a roll. A debug build can be told to die at one of them, as kill -9 lets it die: so tests show that a roll is resumed or
//! backed out wherever it is cut off, and at the very point, not near it. A release build has none of it.

/// A point of a roll.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KillPoint {
    /// Some of the bundle's files are here.
    MidDownload,
    /// The bundle is here and verified.
    Downloaded,
    /// Its towers are about to start, golden vectors to be replayed.
    Replaying,
    /// Its collections are there, nothing fills them yet.
    CollectionsMade,
    /// Some of its points are written.
    MidFill,
    /// It is at the live head and is compared.
    Verifying,
    /// The live generation is noted as retired, and the aliases are its own still.
    BeforeAlias,
    /// The aliases are the new generation's, and the daemon answers with the old one still.
    AfterAlias,
    /// The old generation answers no more.
    Retired,
    /// What is given up by a rollback is noted, and live still.
    BeforeRollback,
    /// The aliases are back.
    AfterRollback,
    /// A generation that is dropped runs no more; its collections are there.
    BeforeDrop,
    /// Its collections are gone, its bundle is here still.
    AfterDrop,
}

#[cfg(debug_assertions)]
impl KillPoint {
    const fn as_str(self) -> &'static str {
        match self {
            Self::MidDownload => "mid_download",
            Self::Downloaded => "downloaded",
            Self::Replaying => "replaying",
            Self::CollectionsMade => "collections_made",
            Self::MidFill => "mid_fill",
            Self::Verifying => "verifying",
            Self::BeforeAlias => "before_alias",
            Self::AfterAlias => "after_alias",
            Self::Retired => "retired",
            Self::BeforeRollback => "before_rollback",
            Self::AfterRollback => "after_rollback",
            Self::BeforeDrop => "before_drop",
            Self::AfterDrop => "after_drop",
        }
    }

    fn is_armed(self) -> bool {
        std::env::var(crate::config::env::KILL_AT).is_ok_and(|armed| armed == self.as_str())
    }
}

/// The roll is at `point`.
#[cfg(debug_assertions)]
pub(super) fn reached(point: KillPoint) {
    if point.is_armed() {
        let killed = std::process::Command::new("kill").args(["-KILL", &std::process::id().to_string()]).status();
        tracing::error!(?killed, point = point.as_str(), "about to die");
        loop {
            std::thread::park();
        }
    }
}

/// The roll is at `point`.
#[cfg(not(debug_assertions))]
pub(super) const fn reached(_: KillPoint) {}

/// A download into `folder` begins.
#[cfg(debug_assertions)]
pub(super) fn download_begins(folder: &std::path::Path) {
    /// How the registry calls a folder that it downloads into.
    const PARTIAL: &str = ".partial-";
    let folder = folder.to_owned();
    let has_some = move || {
        let entries = std::fs::read_dir(&folder).into_iter().flatten().filter_map(Result::ok);
        let mut partial = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(PARTIAL));
        partial.any(|entry| std::fs::read_dir(entry.path()).is_ok_and(|files| files.count() > 1))
    };
    if KillPoint::MidDownload.is_armed() {
        std::thread::spawn(move || {
            while !has_some() {
                std::thread::yield_now();
            }
            reached(KillPoint::MidDownload);
        });
    }
}

/// A download begins.
#[cfg(not(debug_assertions))]
pub(super) const fn download_begins(_: &std::path::Path) {}
