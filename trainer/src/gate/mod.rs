//! Stub.

/// Stub.
#[derive(Debug, Clone, Default, serde::Deserialize)]
pub struct GateConfig {}
