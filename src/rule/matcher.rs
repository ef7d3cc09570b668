//! Matchers: which requests a rule is for, by path, method, host, headers and model.

use crate::request::Headers;
use std::fmt;

/// Which requests a rule is for: those that match everything that is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Matcher {
    /// The path.
    pub path: Option<PathMatch>,
    /// One of these methods, in upper case; empty: any.
    pub methods: Vec<String>,
    /// One of these hosts, in lower case; empty: any.
    pub hosts: Vec<HostMatch>,
    /// All of these headers.
    pub headers: Vec<HeaderMatch>,
    /// The model that is asked for.
    pub model: Option<ModelMatch>,
}

/// How a model's name is matched, with case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ModelMatch {
    /// This name.
    Exact(String),
    /// Starts so.
    Prefix(String),
}

/// The model that a request asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Model<'a> {
    /// It asks for none, or that is not known yet: no rule with a model matches.
    #[default]
    None,
    /// Its name.
    Named(&'a [u8]),
    /// It may ask for one that could not be read: every rule with a model may match, and is charged, but for exemptions.
    Unreadable,
}

/// How a path is matched; all in normal form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathMatch {
    /// The whole path.
    Exact(String),
    /// Its first segments: `/v1` matches `/v1` and `/v1/a`, not `/v1a`. No slash at the end.
    Prefix(String),
    /// Its last bytes.
    Suffix(String),
}

/// How a host is matched, without its port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostMatch {
    /// This host.
    Exact(String),
    /// Any host below this domain: `*.example.com` is stored as `.example.com`.
    Below(String),
}

/// How a header is matched: any of its values, if it is repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeaderMatch {
    /// Its name in lower case.
    pub name: String,
    /// What it has to be.
    pub value: ValueMatch,
}

/// How a header's value is matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ValueMatch {
    /// This value.
    Exact(String),
    /// Starts so.
    Prefix(String),
    /// Is there (`true`) or not (`false`).
    Present(bool),
}

// === impl ModelMatch ===

/// As metrics name it: a prefix with `*` behind it.
impl fmt::Display for ModelMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
        }
    }
}

// === impl Matcher ===

impl Matcher {
    /// Whether everything but the model matches.
    pub(super) fn matches(&self, path: &[u8], headers: &Headers) -> bool {
        let header = |name| headers.first(name).unwrap_or_default();
        self.path.as_ref().is_none_or(|pattern| pattern.matches(path))
            && (self.methods.is_empty() || self.methods.iter().any(|method| method.as_bytes() == header(":method")))
            && (self.hosts.is_empty() || {
                let host = host(header(":authority"));
                self.hosts.iter().any(|pattern| pattern.matches(&host))
            })
            && self.headers.iter().all(|pattern| pattern.matches(headers))
    }
}

impl PathMatch {
    fn matches(&self, path: &[u8]) -> bool {
        match self {
            Self::Exact(exact) => path == exact.as_bytes(),
            Self::Prefix(prefix) => {
                path.strip_prefix(prefix.as_bytes()).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
            }
            Self::Suffix(suffix) => path.ends_with(suffix.as_bytes()),
        }
    }
}

impl ModelMatch {
    /// `None` where nobody knows.
    pub(super) fn matches(&self, model: Model<'_>) -> Option<bool> {
        match (model, self) {
            (Model::None, _) => Some(false),
            (Model::Named(name), Self::Exact(exact)) => Some(name == exact.as_bytes()),
            (Model::Named(name), Self::Prefix(prefix)) => Some(name.starts_with(prefix.as_bytes())),
            (Model::Unreadable, _) => None,
        }
    }
}

impl HostMatch {
    fn matches(&self, host: &[u8]) -> bool {
        match self {
            Self::Exact(exact) => host == exact.as_bytes(),
            Self::Below(domain) => host.len() > domain.len() && host.ends_with(domain.as_bytes()),
        }
    }
}

impl HeaderMatch {
    fn matches(&self, headers: &Headers) -> bool {
        let mut values = headers.values(&self.name);
        match &self.value {
            ValueMatch::Exact(exact) => values.any(|value| value == exact.as_bytes()),
            ValueMatch::Prefix(prefix) => values.any(|value| value.starts_with(prefix.as_bytes())),
            ValueMatch::Present(present) => values.next().is_some() == *present,
        }
    }
}

/// A host in lower case, without port and without the root's dot.
fn host(authority: &[u8]) -> Vec<u8> {
    // The colons of an IPv6 address stand within brackets.
    let bracket = authority.iter().rposition(|byte| *byte == b']').unwrap_or_default();
    let port = authority.iter().rposition(|byte| *byte == b':').filter(|colon| *colon >= bracket);
    let host = authority.get(..port.unwrap_or(authority.len())).unwrap_or_default();
    host.strip_suffix(b".").unwrap_or(host).to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_match_whole_segments() {
        let prefix = PathMatch::Prefix("/v1/images".to_owned());
        assert!(["/v1/images", "/v1/images/", "/v1/images/a"].iter().all(|path| prefix.matches(path.as_bytes())));
        assert!(["/v1/imagesx", "/v1", "/", "/v1/image"].iter().all(|path| !prefix.matches(path.as_bytes())));
        assert!(PathMatch::Prefix(String::new()).matches(b"/anything"));
    }

    #[test]
    fn hosts_are_compared_without_case_port_and_dot() {
        let exact = HostMatch::Exact("api.example.com".to_owned());
        let below = HostMatch::Below(".example.com".to_owned());
        for authority in ["api.example.com", "API.Example.COM:8080", "api.example.com."] {
            assert!(
                exact.matches(&host(authority.as_bytes())) && below.matches(&host(authority.as_bytes())),
                "{authority}"
            );
        }
        for authority in ["example.com", ".example.com", "api.example.com.evil.org", "xexample.com", ""] {
            assert!(!below.matches(&host(authority.as_bytes())), "{authority}");
        }
        assert_eq!(host(b"[2001:DB8::1]:80"), b"[2001:db8::1]");
        assert_eq!(host(b"[2001:db8::1]"), b"[2001:db8::1]");
    }
}
