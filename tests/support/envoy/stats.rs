//! What Envoy counts.

use std::collections::BTreeMap;

use super::Envoy;

impl Envoy {
    /// A counter or gauge by its full name, like `wasmcustom.allowance_tracked_keys`.
    pub fn stat(&self, name: &str) -> Option<u64> {
        parse(&self.admin_get("/stats")).remove(name)
    }

    /// All counters and gauges whose name matches; `filter` is a regular expression in which nothing needs escaping in
    /// a URL.
    pub fn stats(&self, filter: &str) -> BTreeMap<String, u64> {
        parse(&self.admin_get(&format!("/stats?filter={filter}")))
    }

    /// The sum of the Prometheus series with this name and, among others, these labels: what a dashboard would show.
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let wanted: Vec<String> = labels.iter().map(|(label, value)| format!("{label}=\"{value}\"")).collect();
        let text = self.admin_get("/stats/prometheus");
        let series = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{')?.rsplit_once("} "));
        let matching =
            series.filter(|(labels, _)| wanted.iter().all(|wanted| labels.split(',').any(|label| label == wanted)));
        matching.map(|(_, value)| value.parse::<u64>().expect("a counter or gauge")).sum()
    }
}

/// The numbers in what `/stats` answers.
pub(super) fn parse(text: &str) -> BTreeMap<String, u64> {
    // From the right: names may contain colons. Texts and histograms are no numbers and fall out.
    let lines = text.lines().filter_map(|line| line.rsplit_once(": "));
    lines.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect()
}
