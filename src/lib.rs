//! Allowance gives every API key its allowance, inside Envoy: a proxy-wasm filter that decides before the upstream is touched.
//!
//! ```text
//! request headers ─▶ rule ─▶ caller ─▶ limiter: read record, decide all limits, swap ─▶ allowed ─▶ response headers
//!                      └▶ exempt  └▶ 400, 401, 403                                  └▶ denied ─▶ reply: 429
//! ```
//!
//! # The way of a request
//!
//! * [`filter`] turns the proxy's callbacks into one question to the [`gate`], and the verdict into host actions. It decides nothing.
//! * [`gate`]: the order of events, from the request's head to the verdict, with a short way for what nearly every request comes to; for limits in tokens, from its body, and to the end of its response.
//! * [`ask`]: what a request asks a model for. [`waiting`]: until its body says so. [`holding`]: whether the proxy can hold its head meanwhile.
//!   [`bill`]: what it owes until its response is through.
//! * [`request`]: the head of a request, as bytes. [`rule`]: what applies to some requests only, by [`path`] and more.
//! * [`caller`]: who is calling, by API [`key`], by the name that an earlier filter gave, or by [`address`].
//! * [`consumer`]: whose a key is, by its hash, through an `index`. [`memo`]: so that a key is not hashed again and again, by a keyed hash of its
//!   own, [`sip`].
//!   [`plan`]: limits. [`terms`]: what this caller's request is charged under.
//! * [`account`]: where the caller's record is, and what it is charged under. [`namespace`]: the names of all that is stored, and the secret that they
//!   are made with.
//! * [`store`]: compare-and-swap over the shared data of all workers; the only loop. [`table`]: many records in bounded space.
//! * [`ledger`]: the records of all callers, each charged in one step wherever it is. [`limits`]: those of one caller, and which windows they are in.
//!   [`limiter`]: old record → new record and [`decision`], all limits in one step. [`record`]: the stored bytes.
//!   [`lease`]: units charged ahead for those who are busy. [`exhausted`]: denials that last.
//! * [`counter`]: the rules of counting. [`window`]: time. [`cost`]: requests and tokens, bounds and weights.
//!   [`reservation`]: tokens that are held for responses under way.
//! * [`refusal`]: what is refused and why. [`dialect`]: how one provider's API writes that. [`template`]: how the operator does.
//!   [`reply`]: the response it becomes. [`headers`]: the [`fields`] that say what is left, with [`base64`] and [`digits`].
//!   [`metrics`]: what is counted about decisions.
//! * [`usage`]: the tokens that a response says it took, read out of it as it comes.
//! * [`config`]: what operators write, checked as a whole before any of it is used.
//!
//! `memory` is the module's allocator. `host` implements the core's traits ([`request::Head`], [`store::SharedData`], [`metrics::Metrics`], [`ledger::Clock`], [`gate::Response`]) over
//! host calls. It and [`filter`] are all that knows the proxy; the rest is a pure core with time as an argument, and tests natively.
//!
//! # Guarantees
//!
//! * Exact by the stated [rule](counter), from the first request, on any number of workers of one Envoy: the first write creates
//!   exclusively, every other one replaces what was read.
//! * All limits of a caller are decided and charged in one swap. A denial charges nothing.
//! * Tokens are [reserved](reservation) in that swap and settled by what the response took: concurrent calls exceed a limit by no more than what
//!   they took beyond their bounds, and every reservation ends once.
//! * Counts survive configuration changes: what is left is the new maximum minus what was used.
//! * `retry-after` is exact: then the request passes, a second earlier it does not, if no other comes in between.
//! * Memory is bounded: whoever is evicted from the table and returns is counted at least as used as before.
//! * Nothing a client sends can take the module down, and no key, nor its plain hash, leaves memory.

pub mod account;
pub mod address;
pub mod ask;
pub mod base64;
pub mod bill;
pub mod caller;
pub mod config;
pub mod consumer;
pub mod cost;
pub mod counter;
pub mod decision;
pub mod dialect;
pub mod digits;
pub mod exhausted;
pub mod fields;
pub mod filter;
pub mod gate;
pub mod headers;
pub mod holding;
mod host;
mod index;
pub mod key;
pub mod lease;
pub mod ledger;
pub mod limiter;
pub mod limits;
pub mod memo;
pub mod metrics;
pub mod namespace;
mod order;
pub mod path;
pub mod plan;
pub mod record;
pub mod refusal;
pub mod reply;
pub mod request;
pub mod reservation;
pub mod rule;
pub mod sip;
pub mod store;
pub mod table;
pub mod template;
pub mod terms;
pub mod usage;
pub mod waiting;
pub mod window;

#[cfg(target_arch = "wasm32")]
mod memory;
