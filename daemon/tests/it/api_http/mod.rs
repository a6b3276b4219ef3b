//! The HTTP interface over a real socket, with real towers and the real embedded engine.
//!
//! The bundle is `$ASTROMECH_E2E_BUNDLE`, else the demo bundle of the repository; without either the tests fail.

mod access;
mod bodies;
mod gzip;
mod hostile;
mod limits;
mod media;
mod rescore;
mod rescore_limits;
mod search;
mod service;
mod support;
mod tls;
mod videos;
