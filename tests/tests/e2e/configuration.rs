//! `astromech check-config`: every mistake at once, with line, field and fix.

use astromech_e2e::daemon::run_to_end;
use astromech_e2e::world::scratch;

const WRONG: &str = include_str!("snapshots/wrong.toml");
const EXPECTED: &str = include_str!("snapshots/check-config.txt");

#[test]
fn check_config_reports_every_mistake_at_once_with_its_line_field_and_fix() {
    let file = scratch("config").join("astromech.toml");
    std::fs::write(&file, WRONG).expect("the file is written");
    let file = file.to_string_lossy().into_owned();
    let (status, said) = run_to_end(&["check-config", "--config", &file]);
    assert_eq!(status.code(), Some(2), "{said}");
    let said = said.replace(&file, "astromech.toml");
    if std::env::var_os("ASTROMECH_BLESS").is_some() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/snapshots/check-config.txt");
        std::fs::write(path, &said).expect("the snapshot is written");
        return;
    }
    assert_eq!(said, EXPECTED, "ASTROMECH_BLESS=1 writes the new text; look at the difference first");
}
