//! Pictures by http, against real servers in this process.

mod allowed;
mod hostile;
mod hosts;
mod support;
mod tls;
