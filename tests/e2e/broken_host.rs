//! An Envoy that refuses the filter one host call: what a filter that cannot decide looks like from outside.

use crate::support::envoy::{Builder, Envoy};
use crate::support::proxy::Module;

/// Starts this Envoy with all that the module uses allowed to it but one import, which then returns an internal failure each time.
///
/// The call must be one that only requests make: a configuration that meets the failure is refused.
pub(crate) fn without(import: &str, builder: Builder) -> Envoy {
    let module = Module::load(std::env::var("ALLOWANCE_WASM").expect("ALLOWANCE_WASM is not set: run \"make test\""));
    let callbacks = module.exports().into_iter().filter(|export| export.starts_with("proxy_"));
    let imports = module.imports();
    assert!(imports.iter().any(|known| known == import), "the module does not use {import}");
    let allowed: Vec<String> = imports
        .into_iter()
        .filter(|known| known != import)
        .chain(callbacks)
        .map(|capability| format!("{capability}: {{}}"))
        .collect();
    let restriction = format!("capability_restriction_config: {{allowed_capabilities: {{{}}}}}\n", allowed.join(", "));
    // Its bootstrap with this one field more.
    let whole = builder.start();
    let text = std::fs::read_to_string(whole.dir().join("envoy.yaml")).expect("every Envoy has its bootstrap");
    let field = text.find("failure_policy:").expect("the filter has a failure policy");
    let indent = field - text[..field].rfind('\n').expect("it is not the first line") - 1;
    let pad = " ".repeat(indent);
    let text = format!("{}{restriction}{pad}{}", &text[..field], &text[field..]);
    Envoy::with_bootstrap(&text).start()
}
