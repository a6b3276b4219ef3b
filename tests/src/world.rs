//! Both servers, shared by the tests of a process, for one test at a time.

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::kafka::KafkaClient;
use crate::points::Points;
use crate::servers::{Kafka, QdrantServer};
pub use crate::unique::unique;

/// Prefix of the folder of a test process; its PID follows.
const FOLDER_PREFIX: &str = "astromech-e2e-";

static WORLD: Mutex<Option<World>> = Mutex::new(None);

/// The real servers and clients to look at them.
#[derive(Debug)]
pub struct World {
    /// Broker.
    pub kafka: Kafka,
    /// Server.
    pub qdrant: QdrantServer,
    /// The harness's own client of the broker.
    pub client: KafkaClient,
    /// The harness's own client of the server.
    pub points: Points,
}

/// The world, held by one test at a time, with both servers running and Qdrant empty.
#[derive(Debug)]
pub struct WorldGuard(MutexGuard<'static, Option<World>>);

impl std::ops::Deref for WorldGuard {
    type Target = World;

    fn deref(&self) -> &World {
        self.0.as_ref().expect("filled when the guard was made")
    }
}

/// Waits for its turn, then gives the world. A static is never dropped: the scripts' own watch ends the servers with this process.
pub fn world() -> WorldGuard {
    let mut guard = WORLD.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(world) = guard.as_ref() {
        // A test may have failed while a server was down.
        world.kafka.start_again();
        world.qdrant.start_again();
    } else {
        let root = root();
        let qdrant = QdrantServer::start(&root.join("qdrant"));
        let kafka = Kafka::start(&root.join("kafka"));
        let client = KafkaClient::new(&kafka.bootstrap);
        let points = Points::new(&qdrant.url);
        *guard = Some(World { kafka, qdrant, client, points });
    }
    let guard = WorldGuard(guard);
    guard.points.wipe();
    guard
}

/// A new folder for one purpose, inside this process's own.
pub fn scratch(purpose: &str) -> PathBuf {
    let dir = root().join(unique(purpose));
    std::fs::create_dir_all(&dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    dir
}

fn root() -> PathBuf {
    static SWEPT: std::sync::Once = std::sync::Once::new();
    SWEPT.call_once(sweep);
    std::env::temp_dir().join(format!("{FOLDER_PREFIX}{}", std::process::id()))
}

/// Removes the folders of processes that are gone.
fn sweep() {
    for entry in std::fs::read_dir(std::env::temp_dir()).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.strip_prefix(FOLDER_PREFIX)) else { continue };
        let gone = pid.parse::<u32>().is_ok_and(|pid| !PathBuf::from(format!("/proc/{pid}")).exists());
        if gone {
            // Their watch may not have stopped them yet.
            drop((QdrantServer::left_in(&entry.path().join("qdrant")), Kafka::left_in(&entry.path().join("kafka"))));
            // Another process may sweep at the same time.
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}
