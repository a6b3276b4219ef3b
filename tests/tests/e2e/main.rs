//! The daemon end to end: one binary, so that all its tests share one real broker and one real Qdrant. They take turns: see
//! `astromech_e2e::world`.

mod command_line;
mod configuration;
mod dead_letters;
mod harness;
mod hostile_pictures;
mod late_interaction;
mod openapi;
mod operations;
mod poison;
mod poison_kinds;
mod promise_1;
mod promise_2;
mod promise_3;
mod promise_4;
mod promise_5;
mod promise_7;
mod promise_8;
mod rescore_parity;
mod rescore_topic;
mod results;
mod scenario;
mod slice;
mod supply_chain;
mod telemetry;
