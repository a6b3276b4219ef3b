//! The figures of BENCHMARKS.md. `astromech-bench [PART]…`, all parts without arguments.
//!
//! Every figure stands beside its baseline, taken in the same run, with the same bundle, threads and batch sizes. Machines and minutes
//! differ; ratios within a run compare.

#![forbid(unsafe_code)]

mod decode;
mod index;
mod pipeline;
mod rescore;
mod rollout;
mod stream;
mod table;
mod text_length;

use std::ops::RangeInclusive;
use std::process::ExitCode;

use astromech_towers::graph::GraphOptions;
use astromech_towers::{Bundle, Towers, TowersConfig};

/// What every part measures with.
pub(crate) struct Setting {
    bundle: Bundle,
    config: TowersConfig,
    towers: Towers,
    options: GraphOptions,
}

impl Setting {
    fn open() -> Result<Self, String> {
        let bundle = Bundle::open(astromech_e2e::bundle::path()).map_err(|e| e.to_string())?;
        let config = TowersConfig { load_cross: false, ..TowersConfig::default() };
        let options = GraphOptions::new(&bundle, &config).map_err(|e| e.to_string())?;
        // The bare loops open sessions of their own; these tokenise, and idle.
        let towers = Towers::start(&bundle, &config).map_err(|e| e.to_string())?;
        Ok(Self { bundle, config, towers, options })
    }
}

type Part = (&'static str, fn(&Setting) -> Result<String, String>);

const PARTS: [Part; 6] = [
    ("end-to-end", pipeline::run),
    ("decode", decode::run),
    ("text-length", text_length::run),
    ("rescore", rescore::run),
    ("rollout", rollout::run),
    ("index", index::run),
];

fn main() -> ExitCode {
    match run(&std::env::args().skip(1).collect::<Vec<_>>()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            astromech_e2e::paths::message(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn run(wanted: &[String]) -> Result<(), String> {
    if let Some(unknown) = wanted.iter().find(|name| PARTS.iter().all(|(part, _)| part != name)) {
        let names: Vec<_> = PARTS.iter().map(|(name, _)| *name).collect();
        return Err(format!("unknown part `{unknown}`; the parts are {}", names.join(", ")));
    }
    let setting = Setting::open()?;
    table::print(&heading(&setting));
    for (name, part) in PARTS {
        if wanted.is_empty() || wanted.iter().any(|wanted| wanted == name) {
            table::print(&part(&setting).map_err(|e| format!("{name}: {e}"))?);
        }
    }
    Ok(())
}

/// Most items of a run: the topic holds them all at once.
pub(crate) const ITEMS_MAX: usize = 1_000_000;

/// The number in the environment's `variable`, else `default`.
pub(crate) fn number_of(variable: &str, default: usize, allowed: RangeInclusive<usize>) -> Result<usize, String> {
    let Some(given) = std::env::var_os(variable) else { return Ok(default) };
    let number = given.to_str().and_then(|text| text.parse().ok()).filter(|number| allowed.contains(number));
    number.ok_or_else(|| {
        format!("{variable} is {}; give a whole number from {} to {}", given.display(), allowed.start(), allowed.end())
    })
}

fn heading(setting: &Setting) -> String {
    let own = std::env::current_exe().unwrap_or_default();
    let profile = if own.components().any(|part| part.as_os_str() == "release") { "release" } else { "dev" };
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .and_then(|rest| rest.split(": ").nth(1))
        .unwrap_or("unknown CPU");
    let manifest = &setting.bundle.manifest;
    format!(
        "bundle {} ({}), {}, pictures {} px; {} threads; profile {profile}; {model}\n",
        manifest.name,
        manifest.fingerprint.short(),
        setting.options.precision.as_str(),
        manifest.image.size,
        setting.options.threads,
    )
}
