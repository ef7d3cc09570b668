//! Who is calling: where keys and identities are, and whose they are.

use super::Mistakes;
use super::language::{
    ApiKeySpec, ConsumerSpec, IdentitySpec, KeySpec, NamedKeySpec, PlaceSpec, SeveralSpec, SourceSpec,
};
use super::plans::{self, Everywhere};
use super::reader::{Field, Items, child};
use super::values::{MetadataKey, Name};
use crate::caller::{Identity, Place};
use crate::consumer::{Consumer, Directory, ListedKey};
use crate::key::{KeyHash, Several, Source, Sources};
use crate::plan::{MAX_LIMITS, Plan};

pub(super) fn sources(spec: ApiKeySpec, mistakes: &mut Mistakes) -> Sources {
    let several = match spec.several.given() {
        Some(SeveralSpec::First) => Several::First,
        Some(SeveralSpec::Refuse) | None => Several::Refuse,
    };
    let Some(list) = spec.from.given() else {
        return Sources {
            from: vec![Source::Bearer("authorization".to_owned()), Source::Header("x-api-key".to_owned())],
            several,
        };
    };
    if list.is_empty() {
        mistakes.add("api_key.from", "expected at least one source, got an empty list");
    }
    let mut from = Vec::with_capacity(list.len());
    for (index, spec) in list.into_iter().enumerate() {
        let path = format!("api_key.from[{index}]");
        let Some(source) = spec.given().and_then(|spec| source(spec, &path, mistakes)) else {
            continue;
        };
        if from.iter().any(|known| same_place(known, &source)) {
            mistakes.add(path, "expected a place that no earlier source reads");
        } else {
            from.push(source);
        }
    }
    Sources { from, several }
}

fn source(spec: SourceSpec, path: &str, mistakes: &mut Mistakes) -> Option<Source> {
    let fields = [
        ("bearer", spec.bearer.is_absent()),
        ("header", spec.header.is_absent()),
        ("query", spec.query.is_absent()),
        ("cookie", spec.cookie.is_absent()),
        ("metadata", spec.metadata.is_absent()),
    ];
    super::exactly_one(path, &fields, mistakes)?;
    let bearer = spec.bearer.given().map(|name| Source::Bearer(name.0));
    let header = spec.header.given().map(|name| Source::Header(name.0));
    let query = spec.query.given().map(|name| Source::Query(name.0));
    let cookie = spec.cookie.given().map(|name| Source::Cookie(name.0));
    let metadata = metadata(spec.metadata, path, mistakes).map(Source::Metadata);
    bearer.or(header).or(query).or(cookie).or(metadata)
}

/// A header read twice, once as bearer and once whole, would make every request ambiguous.
fn same_place(one: &Source, other: &Source) -> bool {
    match (one, other) {
        (Source::Bearer(one) | Source::Header(one), Source::Bearer(other) | Source::Header(other))
        | (Source::Query(one), Source::Query(other))
        | (Source::Cookie(one), Source::Cookie(other)) => one == other,
        (one, other) => one == other,
    }
}

/// The way to a value in dynamic metadata: the filter's namespace, and at least one key.
fn metadata(spec: Field<Vec<Field<MetadataKey>>>, path: &str, mistakes: &mut Mistakes) -> Option<Vec<String>> {
    let parts = spec.given()?;
    if parts.len() < 2 {
        let got = parts.len();
        mistakes.add(
            child(path, "metadata"),
            format_args!("expected a filter's namespace and at least one key, got {got} parts"),
        );
        return None;
    }
    parts.into_iter().map(|part| Some(part.given()?.0)).collect()
}

pub(super) fn identity(spec: IdentitySpec, mistakes: &mut Mistakes) -> Option<Identity> {
    if spec.consumer.is_absent() {
        mistakes.add("identity.consumer", "expected where the consumer's name is, got nothing");
    }
    let consumer = spec.consumer.given().and_then(|spec| place(spec, "identity.consumer", mistakes));
    let plan = spec.plan.given().and_then(|spec| place(spec, "identity.plan", mistakes));
    Some(Identity { consumer: consumer?, plan })
}

fn place(spec: PlaceSpec, path: &str, mistakes: &mut Mistakes) -> Option<Place> {
    let fields = [("metadata", spec.metadata.is_absent()), ("header", spec.header.is_absent())];
    super::exactly_one(path, &fields, mistakes)?;
    let header = spec.header.given().map(|name| Place::Header(name.0));
    header.or(metadata(spec.metadata, path, mistakes).map(Place::Metadata))
}

/// `with_keys`: consumers are found by keys, so that one without any could never be. There may be very many: they are read one by one.
pub(super) fn consumers(
    specs: Field<Items<'_, ConsumerSpec>>,
    plans: &[Plan],
    with_keys: bool,
    everywhere: Everywhere,
    mistakes: &mut Mistakes,
) -> Directory {
    let Some(mut specs) = specs.given() else {
        return Directory::default();
    };
    let mut directory = Directory::with_capacity(specs.len(), with_keys);
    while let Some(spec) = specs.next(mistakes) {
        let index = directory.consumers().len();
        match spec.given() {
            Some(spec) => {
                if with_keys && (spec.keys.is_absent() || matches!(&spec.keys, Field::Given(keys) if keys.is_empty())) {
                    mistakes.add(format_args!("consumers[{index}].keys"), "expected at least one key, got nothing");
                }
                consumer(spec, index, plans, everywhere, &mut directory, mistakes);
            }
            // Mistakes number consumers as they stand in the list.
            None => directory.add(Consumer::default()),
        }
    }
    directory
}

fn consumer(
    spec: ConsumerSpec,
    index: usize,
    plans: &[Plan],
    everywhere: Everywhere,
    directory: &mut Directory,
    mistakes: &mut Mistakes,
) {
    let known = |name: &str| directory.by_name(name.as_bytes()).map(|(first, _)| first);
    let name = super::unique_name(spec.name, ("consumer", "consumers"), index, known, mistakes);
    let plan = plans::index(format_args!("consumers[{index}].plan"), spec.plan, plans, mistakes);
    let under = plan.and_then(|plan| plans.get(plan));
    let everywhere = Everywhere { shadow: everywhere.shadow || under.is_some_and(|plan| plan.shadow), ..everywhere };
    let limits = spec.limits.given().map(|list| {
        let path = format!("consumers[{index}].limits");
        let limits = plans::merged(under, plans::limits(list, "", &path, everywhere, mistakes));
        if limits.len() > MAX_LIMITS {
            mistakes.add(
                path,
                format_args!("expected at most {MAX_LIMITS} limits together with the plan's, got {}", limits.len()),
            );
        }
        limits.into()
    });
    directory.add(Consumer {
        name: name.into(),
        plan: plan.unwrap_or_default(),
        limits,
        disabled: spec.disabled == Field::Given(true),
        generation: spec.generation.given().map_or(0, |generation| generation.0),
    });
    for (number, spec) in spec.keys.given().unwrap_or_default().into_iter().enumerate() {
        let path = || format!("consumers[{index}].keys[{number}]");
        let Some((hash, key)) = spec.given().and_then(|spec| key(spec, path, mistakes)) else {
            continue;
        };
        if let Err(owner) = directory.add_key(hash, key) {
            mistakes.add(path(), format_args!("expected a key that is listed once, got one of consumers[{owner}]"));
        }
    }
}

fn key(spec: KeySpec, path: impl Fn() -> String, mistakes: &mut Mistakes) -> Option<(KeyHash, ListedKey)> {
    let NamedKeySpec { sha256, name, disabled } = match spec {
        KeySpec::Hash(hash) => return Some((hash, ListedKey::default())),
        KeySpec::Named(spec) => spec,
    };
    if sha256.is_absent() {
        mistakes.add(child(&path(), "sha256"), "expected the hash of a key, got nothing");
    }
    let name = name.given().map(|Name(name)| name.into());
    Some((sha256.given()?.0, ListedKey { name, disabled: disabled == Field::Given(true) }))
}
