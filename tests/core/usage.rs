//! Reading usage out of responses: the formats of all providers, in any cuts.

mod corpus;
mod dropping;
mod memory;
mod oracle;
mod rules;
mod written;
