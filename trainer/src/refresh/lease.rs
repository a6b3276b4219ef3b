//! One job at a time: a lease in the work folder, which its holder renews and anybody takes over once it has expired.
//!
//! The lease is a file with holder and expiry, changed under a lock that is held for an instant only. A process that is killed leaves
//! the lease, and the next job waits for nothing but the expiry; clocks of machines that share the folder must agree within it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::collect::time::now_ms;
use crate::files::{FileError, file_error, write_atomically};
use crate::stop::StopFlag;

/// File of the lease inside the work folder.
const LEASE_FILE: &str = "lease.json";
const LOCK_FILE: &str = "lease.lock";
/// Heartbeats in the time that a lease holds.
const BEATS: u32 = 4;

/// Why there is no lease.
#[derive(Debug, Error)]
pub enum LeaseError {
    /// Another job has it.
    #[error("{holder} holds the lease for another {seconds} s; wait for it, or for its expiry where it is dead")]
    Held {
        /// The other job.
        holder: String,
        /// Until its lease expires.
        seconds: i64,
    },
    /// Another job took it over: this one did not renew it in time.
    #[error("the lease was lost to {holder}: it was not renewed within {seconds} s; raise job.lease_seconds")]
    Lost {
        /// The other job.
        holder: String,
        /// How long it holds.
        seconds: u64,
    },
    /// A file.
    #[error(transparent)]
    Io(#[from] FileError),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Document {
    /// Machine, process and start: for people, and what tells two jobs apart.
    holder: String,
    /// Milliseconds since 1970 UTC.
    expires_ms: i64,
}

#[derive(Debug)]
struct Place {
    folder: PathBuf,
    holder: String,
    time: Duration,
}

impl Place {
    /// Runs `act` on the lease as it is while nobody else changes it; what it answers is written.
    fn change(&self, act: impl FnOnce(Option<Document>) -> Result<Option<Document>, LeaseError>) -> Result<(), LeaseError> {
        let path = self.folder.join(LEASE_FILE);
        let lock_path = self.folder.join(LOCK_FILE);
        let lock = File::create(&lock_path).map_err(file_error(&lock_path))?;
        lock.lock().map_err(file_error(&lock_path))?;
        let found = match std::fs::read(&path) {
            // One that can't be read was not written by this program: nobody renews it.
            Ok(bytes) => serde_json::from_slice(&bytes).ok(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(file_error(&path)(error).into()),
        };
        match act(found)? {
            Some(document) => {
                let bytes = serde_json::to_vec(&document).map_err(std::io::Error::other).map_err(file_error(&path))?;
                Ok(write_atomically(&path, |at| std::fs::write(at, &bytes)).map_err(file_error(&path))?)
            }
            None => match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(file_error(&path)(error).into()),
                _ => Ok(()),
            },
        }
    }

    fn own(&self) -> Document {
        Document { holder: self.holder.clone(), expires_ms: now_ms() + self.time.as_millis() as i64 }
    }

    fn acquire(&self) -> Result<(), LeaseError> {
        self.change(|found| match found {
            Some(other) if other.expires_ms > now_ms() && other.holder != self.holder => {
                let seconds = (other.expires_ms - now_ms() + 999) / 1000;
                Err(LeaseError::Held { holder: other.holder, seconds })
            }
            Some(other) => {
                tracing::warn!(holder = other.holder, "took over a lease that had expired");
                Ok(Some(self.own()))
            }
            None => Ok(Some(self.own())),
        })
    }

    fn renew(&self) -> Result<(), LeaseError> {
        self.change(|found| match found {
            Some(document) if document.holder == self.holder => Ok(Some(self.own())),
            other => {
                let holder = other.map_or_else(|| "nobody".to_owned(), |other| other.holder);
                Err(LeaseError::Lost { holder, seconds: self.time.as_secs() })
            }
        })
    }
}

/// A held lease, renewed by a thread of its own. Dropped, it is given back.
#[derive(Debug)]
pub struct Lease {
    place: Arc<Place>,
    lost: Arc<AtomicBool>,
    ends: Mutex<Option<Sender<()>>>,
    thread: Option<JoinHandle<()>>,
}

impl Lease {
    /// Takes the lease of `folder` for `time`. `beat` is called with each renewal; `stop` is set when the lease is lost.
    ///
    /// # Errors
    /// Another job holds it, or a file can't be written.
    pub fn take(
        folder: &Path,
        holder: String,
        time: Duration,
        stop: &StopFlag,
        beat: impl FnMut() + Send + 'static,
    ) -> Result<Self, LeaseError> {
        let place = Arc::new(Place { folder: folder.to_owned(), holder, time });
        place.acquire()?;
        let lost = Arc::new(AtomicBool::new(false));
        let (sender, ends) = channel();
        let thread = {
            let (place, lost, stop) = (Arc::clone(&place), Arc::clone(&lost), stop.clone());
            let run = move || heartbeat(&place, &lost, &stop, &ends, beat);
            std::thread::Builder::new().name("lease".into()).spawn(run).map_err(file_error(folder))?
        };
        Ok(Self { place, lost, ends: Mutex::new(Some(sender)), thread: Some(thread) })
    }

    /// Renews the lease now: what must not happen twice is done only after this.
    ///
    /// # Errors
    /// It was lost, or a file can't be written.
    pub fn check(&self) -> Result<(), LeaseError> {
        self.place.renew()
    }

    /// True once another job took it over.
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::SeqCst)
    }
}

fn heartbeat(place: &Place, lost: &AtomicBool, stop: &StopFlag, ends: &Receiver<()>, mut beat: impl FnMut()) {
    while ends.recv_timeout(place.time / BEATS) == Err(RecvTimeoutError::Timeout) {
        match place.renew() {
            Ok(()) => beat(),
            Err(error @ LeaseError::Lost { .. }) => {
                tracing::error!("{error}");
                lost.store(true, Ordering::SeqCst);
                stop.stop();
                return;
            }
            // The next beat tries again; an expiry is seen by then.
            Err(error) => tracing::warn!("the lease could not be renewed: {error}"),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        drop(self.ends.lock().unwrap_or_else(PoisonError::into_inner).take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        let given_back = self.place.change(|found| Ok(found.filter(|document| document.holder != self.place.holder)));
        if let Err(error) = given_back {
            tracing::warn!("the lease stays until it expires: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(folder: &Path, holder: &str, ms: u64) -> Result<Lease, LeaseError> {
        Lease::take(folder, holder.to_owned(), Duration::from_millis(ms), &StopFlag::new(), || {})
    }

    #[test]
    fn a_lease_is_held_by_one_given_back_when_dropped_and_taken_over_once_it_expired() {
        let folder = tempfile::tempdir().unwrap();
        let first = take(folder.path(), "a", 60_000).unwrap();
        let refused = take(folder.path(), "b", 60_000).unwrap_err();
        assert!(matches!(&refused, LeaseError::Held { holder, seconds: 59..=60 } if holder == "a"), "{refused}");
        drop(first);
        drop(take(folder.path(), "b", 60_000).unwrap());
        // A dead holder's, whose time is over.
        let dead = serde_json::json!({ "holder": "dead", "expires_ms": now_ms() - 1 });
        std::fs::write(folder.path().join(LEASE_FILE), dead.to_string()).unwrap();
        let third = take(folder.path(), "c", 60_000).unwrap();
        third.check().unwrap();
        // Taken over by another: the holder learns of it, and does not take the other's away.
        let other = serde_json::json!({ "holder": "d", "expires_ms": now_ms() + 60_000 });
        std::fs::write(folder.path().join(LEASE_FILE), other.to_string()).unwrap();
        assert!(matches!(third.check(), Err(LeaseError::Lost { .. })));
        drop(third);
        assert!(matches!(take(folder.path(), "e", 60_000), Err(LeaseError::Held { .. })));
    }

    #[test]
    fn a_heartbeat_renews_the_lease_beyond_its_time() {
        let folder = tempfile::tempdir().unwrap();
        let (sender, beats) = channel();
        let beat = move || {
            let _ = sender.send(now_ms());
        };
        let time = Duration::from_millis(400);
        let lease = Lease::take(folder.path(), "a".into(), time, &StopFlag::new(), beat).unwrap();
        for _ in 0..2 * BEATS {
            beats.recv_timeout(Duration::from_secs(20)).unwrap();
        }
        assert!(matches!(take(folder.path(), "b", 400), Err(LeaseError::Held { .. })));
        assert!(!lease.is_lost());
    }
}
