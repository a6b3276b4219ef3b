//! Opening a graph on the provider asked for, or saying why not.

use std::path::Path;

use astromech_schemas::manifest::Precision;
use ort::ep::{self, ExecutionProvider as _};
use ort::session::builder::{BuilderResult, GraphOptimizationLevel};
use ort::session::{HasSelectedOutputs, OutputSelector, RunOptions, Session};
use ort::value::DynValue;

use crate::runtime::environment;
use crate::{Bundle, Provider, Tower, TowersConfig, TowersError};

/// How a graph is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GraphOptions {
    /// Where it runs.
    pub provider: Provider,
    /// Which of the bundle's graphs.
    pub precision: Precision,
    /// Threads of the session, at least 1.
    pub threads: usize,
}

impl GraphOptions {
    /// The options that [`crate::Towers::start`] uses for a tower of one worker.
    ///
    /// # Errors
    /// The bundle lacks the precision asked for.
    pub fn new(bundle: &Bundle, config: &TowersConfig) -> Result<Self, TowersError> {
        let workers = config.workers.max(1);
        let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let threads = if config.threads == 0 { cores() } else { config.threads };
        let precision = choose_precision(bundle, config)?;
        Ok(Self { provider: config.provider, precision, threads: (threads / workers).max(1) })
    }
}

/// The word for a provider: `cpu`, `cuda:0`.
pub(crate) fn provider_name(provider: Provider) -> String {
    match provider {
        Provider::Cpu => "cpu".to_owned(),
        Provider::Cuda { device_id } => format!("cuda:{device_id}"),
    }
}

/// The precision asked for, or the fastest that the bundle holds for the provider: int8 on a CPU takes 0.4 of f32's time, fp16 is
/// slower there and is for CUDA.
pub(crate) fn choose_precision(bundle: &Bundle, config: &TowersConfig) -> Result<Precision, TowersError> {
    let held = &bundle.manifest.precisions;
    if let Some(wanted) = config.precision {
        if held.contains(&wanted) {
            return Ok(wanted);
        }
        let names: Vec<_> = held.iter().map(|precision| precision.as_str()).collect();
        let problem = format!("precision {} is not in the bundle, which has {}", wanted.as_str(), names.join(", "));
        return Err(TowersError::bundle(&bundle.dir, problem));
    }
    let preferred = match config.provider {
        Provider::Cpu => Precision::Int8,
        Provider::Cuda { .. } => Precision::Fp16,
    };
    let choice = [preferred, Precision::F32].into_iter().find(|precision| held.contains(precision));
    choice.or_else(|| held.first().copied()).ok_or_else(|| TowersError::bundle(&bundle.dir, "its manifest lists no precision"))
}

/// Whether ONNX Runtime has the provider at all.
pub(crate) fn check_provider(provider: Provider) -> Result<(), TowersError> {
    environment()?;
    let Provider::Cuda { .. } = provider else { return Ok(()) };
    match ep::CUDA::is_available() {
        Ok(true) => Ok(()),
        Ok(false) => Err(unavailable(
            provider,
            "this ONNX Runtime library was built without CUDA; point ORT_DYLIB_PATH (or [runtime] onnxruntime) at the library of \
             the wheel onnxruntime-gpu==1.31.1, or set provider = \"cpu\"",
        )),
        Err(error) => Err(unavailable(provider, error)),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "`map_err` hands the error over")]
fn unavailable(provider: Provider, missing: impl ToString) -> TowersError {
    TowersError::ProviderUnavailable { provider: provider_name(provider), missing: missing.to_string() }
}

/// What an image or text graph of a bundle gives.
pub(super) struct Outputs {
    /// Every output.
    pub(super) all: &'static [&'static str],
    /// Those without the states.
    pub(super) vectors: &'static [&'static str],
    /// Whether `tokens` is among them.
    pub(super) has_tokens: bool,
}

impl Outputs {
    pub(super) fn of(bundle: &Bundle) -> Self {
        if bundle.manifest.similarity.is_cosine() {
            Self { all: &["embedding", "states"], vectors: &["embedding"], has_tokens: false }
        } else {
            Self { all: &["embedding", "states", "tokens"], vectors: &["embedding", "tokens"], has_tokens: true }
        }
    }
}

/// A session with its inputs and outputs checked by name.
pub(super) struct Graph {
    pub(super) session: Session,
    pub(super) tower: Tower,
}

impl Graph {
    pub(super) fn open(
        bundle: &Bundle,
        tower: Tower,
        options: GraphOptions,
        inputs: &[&str],
        outputs: &[&str],
    ) -> Result<Self, TowersError> {
        let name = options.precision.graph_file(tower.as_str());
        bundle.listed(&name)?;
        let path = bundle.dir.join(&name);
        let session = open_session(&path, tower, options)?;
        let found = |outlets: &[ort::value::Outlet], name: &str| outlets.iter().any(|outlet| outlet.name() == name);
        let missing_input = inputs.iter().find(|name| !found(session.inputs(), name));
        let missing_output = outputs.iter().find(|name| !found(session.outputs(), name));
        match missing_input.or(missing_output) {
            Some(missing) => Err(TowersError::bundle(&bundle.dir, format!("{name} lacks the input or output `{missing}`"))),
            None => Ok(Self { session, tower }),
        }
    }
}

fn open_session(path: &Path, tower: Tower, options: GraphOptions) -> Result<Session, TowersError> {
    let graph_error = |error: ort::Error| TowersError::graph(tower.as_str(), format!("{}: {error}", path.display()));
    let plain = |result: BuilderResult| result.map_err(|error| graph_error(error.into()));
    let builder = Session::builder(environment()?).map_err(graph_error)?;
    let builder = plain(builder.with_optimization_level(GraphOptimizationLevel::Level3))?;
    let builder = plain(builder.with_intra_threads(options.threads))?;
    let builder = plain(builder.with_inter_threads(1))?;
    // Idle threads of one tower would spin on the cores that the other towers and the decoders need.
    let builder = plain(builder.with_intra_op_spinning(false))?;
    let mut builder = match options.provider {
        Provider::Cpu => builder,
        Provider::Cuda { device_id } => {
            check_provider(options.provider)?;
            // An exhaustive search costs 0.6 s for every new shape (numbers.md §7).
            let search = ep::cuda::ConvAlgorithmSearch::Heuristic;
            let cuda =
                ep::CUDA::default().with_device_id(device_id).with_conv_algorithm_search(search).build().error_on_failure();
            builder.with_execution_providers([cuda]).map_err(|error| unavailable(options.provider, error))?
        }
    };
    builder.commit_from_file(path).map_err(graph_error)
}

/// Run options that fetch only `outputs`: what is not fetched is not copied out.
pub(super) fn fetch(tower: Tower, outputs: &[&str]) -> Result<RunOptions<HasSelectedOutputs>, TowersError> {
    let options = RunOptions::new().map_err(|error| TowersError::graph(tower.as_str(), error))?;
    Ok(options.with_outputs(outputs.iter().fold(OutputSelector::no_default(), |selector, name| selector.with(*name))))
}

/// Data of the output `value`, checked to be finite and of the shape that was asked for; `None` in `shape` is any size.
pub(super) fn floats<'v>(
    value: Option<&'v DynValue>,
    name: &str,
    shape: &[Option<usize>],
) -> Result<(Vec<usize>, &'v [f32]), String> {
    let value = value.ok_or_else(|| format!("output `{name}` is missing"))?;
    let (found, data) = value.try_extract_tensor::<f32>().map_err(|error| format!("output `{name}`: {error}"))?;
    let found: Vec<usize> = found.iter().map(|size| usize::try_from(*size).unwrap_or(0)).collect();
    let fits =
        found.len() == shape.len() && found.iter().zip(shape).all(|(found, wanted)| wanted.is_none_or(|wanted| wanted == *found));
    if !fits {
        return Err(format!("output `{name}` has shape {found:?}; the manifest and the batch ask for {shape:?}"));
    }
    if data.iter().any(|number| !number.is_finite()) {
        return Err(format!("output `{name}` holds numbers that are not finite"));
    }
    Ok((found, data))
}
