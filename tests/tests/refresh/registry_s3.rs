//! The registry on a real S3 server: the same cases as in a folder, and what only a server can do.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "../../../daemon/registry/tests/contract/mod.rs"]
mod contract;

use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use self::contract::Place;
use astromech_e2e::servers::S3Server;
use astromech_e2e::wait::{block_on, wait_for};
use astromech_e2e::world::{scratch, unique};
use astromech_registry::{Registry, RegistryError, RegistryLimits, RegistryOptions, Trust, bundle_at};

/// A static is never dropped: the script's own watch ends the server with this process.
static SERVER: LazyLock<S3Server> = LazyLock::new(|| S3Server::start(&scratch("s3")));

const DEADLINE: Duration = Duration::from_mins(1);

fn options(server: &S3Server, url: String) -> RegistryOptions {
    RegistryOptions {
        endpoint: Some(server.endpoint.clone()),
        access_key: Some(server.access_key.clone()),
        secret_key: Some(server.secret_key.clone()),
        region: Some("us-east-1".to_owned()),
        allow_http: true,
        ..RegistryOptions::new(url)
    }
}

fn place() -> Place {
    let bucket = unique("models");
    let root = SERVER.bucket(&bucket).join("team").join("live");
    Place { options: options(&SERVER, format!("s3://{bucket}/team/live")), root }
}

macro_rules! contract {
    ($($case:ident)*) => { $(
        #[test]
        fn $case() {
            block_on(contract::$case(&place()));
        }
    )* };
}

contract::for_each_case!(contract);

#[test]
fn a_store_that_is_down_is_transient_and_wrong_keys_or_a_missing_bucket_are_not() {
    let server = S3Server::start(&scratch("s3-down"));
    server.bucket("models");
    let good = options(&server, "s3://models".to_owned());
    let current = |options: &RegistryOptions| block_on(Registry::open(options).unwrap().current());
    assert_eq!(current(&good).unwrap(), None);
    let wrong = RegistryOptions { secret_key: Some("wrong".to_owned()), ..good.clone() };
    let error = current(&wrong).unwrap_err();
    assert!(matches!(error, RegistryError::Refused { .. }) && !error.is_transient(), "{error}");
    let nowhere = RegistryOptions { url: "s3://nowhere".to_owned(), ..good.clone() };
    let error = current(&nowhere).unwrap_err();
    assert!(matches!(error, RegistryError::Refused { .. }) && !error.is_transient(), "{error}");
    server.stop();
    let limits =
        RegistryLimits { connect_timeout: Duration::from_secs(1), retry_timeout: Duration::from_secs(1), ..good.limits.clone() };
    let impatient = RegistryOptions { limits, ..good.clone() };
    let error = current(&impatient).unwrap_err();
    assert!(error.is_transient() && error.to_string().contains("is the store up and reachable?"), "{error}");
    server.start_again();
    assert_eq!(current(&good).unwrap(), None);
}

/// `trainer publish` on that server.
fn publish(bundle: &Path, place: &Place) -> Command {
    let mut command = Command::new(astromech_e2e::paths::trainer_binary());
    command.args([
        "publish",
        "--allow-http",
        "--region",
        "us-east-1",
        "--endpoint",
        &SERVER.endpoint,
        "--registry",
        &place.options.url,
    ]);
    command.arg("--bundle").arg(bundle);
    command.env("AWS_ACCESS_KEY_ID", &SERVER.access_key).env("AWS_SECRET_ACCESS_KEY", &SERVER.secret_key);
    command
}

#[test]
fn the_daemons_command_brings_a_bundle_out_of_object_storage_and_a_killed_one_leaves_nothing_of_it() {
    let (place, folder) = (place(), scratch("bundle-fetch-s3"));
    let registry = Registry::open(&place.options).unwrap();
    let release = block_on(registry.publish(&contract::bundle(&folder.join("source"), 1, 64 << 20), None)).unwrap();
    let live = folder.join("bundles/live");
    let fetch = || {
        let mut command = Command::new(astromech_e2e::paths::daemon_binary());
        command.args(["bundle", "fetch", "--allow-http", "--region", "us-east-1", "--endpoint", &SERVER.endpoint]);
        command.args(["--registry", &place.options.url]).arg("--to").arg(&live);
        command.env("AWS_ACCESS_KEY_ID", &SERVER.access_key).env("AWS_SECRET_ACCESS_KEY", &SERVER.secret_key);
        command
    };
    let mut killed = fetch().spawn().unwrap();
    let entries = || std::fs::read_dir(folder.join("bundles")).map_or(0, Iterator::count);
    // The lock, and the folder that is filled.
    wait_for("a bundle on its way", DEADLINE, || entries() == 2);
    killed.kill().unwrap();
    killed.wait().unwrap();
    assert!(!live.exists(), "it was whole before it was killed");
    for what in [": fetched", ": there already"] {
        let done = fetch().output().unwrap();
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        let expected = format!("{}  {}{what}\n", release.fingerprint, live.display());
        assert!(done.status.success() && said == expected, "{said}{}", String::from_utf8_lossy(&done.stderr));
    }
    assert_eq!(entries(), 2, "what the killed one left is gone");
    assert_eq!(bundle_at(&live).unwrap().unwrap().fingerprint, release.fingerprint);
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_publisher_killed_in_the_middle_leaves_the_old_pointer_and_the_next_one_ends_its_work() {
    let place = place();
    let folder = scratch("publish");
    let registry = Registry::open(&place.options).unwrap();
    let old = block_on(registry.publish(&contract::bundle(&folder.join("old"), 1, 10), None)).unwrap();
    // Long enough on the way that the kill finds it there: the model card is sent first, then half a gigabyte.
    let source = contract::bundle(&folder.join("new"), 2, 512 << 20);
    let mut publisher = publish(&source, &place).spawn().unwrap();
    let bundles = place.root.join("bundles");
    wait_for("the first file of the new bundle", DEADLINE, || std::fs::read_dir(&bundles).unwrap().count() == 2);
    publisher.kill().unwrap();
    assert!(!publisher.wait().unwrap().success(), "it ended before it was killed");
    assert_eq!(block_on(registry.current()).unwrap(), Some(old.clone()));
    assert_eq!(block_on(registry.list()).unwrap(), std::slice::from_ref(&old));
    block_on(registry.fetch(&old, &folder.join("fetched"), &Trust::anyone())).unwrap();

    let done = publish(&source, &place).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let new = block_on(registry.current()).unwrap().unwrap();
    assert_ne!(new.fingerprint, old.fingerprint);
    block_on(registry.fetch(&new, &folder.join("fetched"), &Trust::anyone())).unwrap();
    std::fs::remove_dir_all(folder).unwrap();
}
