//! Where keys are found, and when there are too many of them.

use allowance::key::{ApiKey, Found, KeyHash, Several, Source, Sources};
use allowance::request::{Head, Headers, Request};
use allowance::store::HostError;
use proptest::prelude::*;

/// A request's head that counts how often it is read.
pub(crate) struct Fake {
    pairs: Vec<(&'static str, Vec<u8>)>,
    reads: std::cell::Cell<u32>,
}

impl Head for Fake {
    fn headers(&self) -> Result<Headers, HostError> {
        self.reads.set(self.reads.get() + 1);
        let mut bytes = Vec::new();
        let word = |n: usize| u32::try_from(n).unwrap().to_le_bytes();
        bytes.extend(word(self.pairs.len()));
        self.pairs.iter().for_each(|(n, v)| bytes.extend([word(n.len()), word(v.len())].concat()));
        self.pairs.iter().for_each(|(n, v)| bytes.extend([n.as_bytes(), b"\0", v.as_slice(), b"\0"].concat()));
        Ok(Headers::decode(bytes).unwrap())
    }

    fn metadata(&self, path: &[String]) -> Result<Option<Vec<u8>>, HostError> {
        Ok((path == ["earlier.filter", "key"]).then(|| b"from-metadata".to_vec()))
    }

    fn source_address(&self) -> Result<Vec<u8>, HostError> {
        Ok(b"203.0.113.7:1".to_vec())
    }
}

pub(crate) fn key(text: &str) -> ApiKey<'static> {
    match find(&[Source::Header("k".to_owned())], Several::Refuse, &[("k", text)]) {
        Found::Key(key) => key,
        other => panic!("{text}: {other:?}"),
    }
}

fn find(from: &[Source], several: Several, pairs: &[(&'static str, &str)]) -> Found<'static> {
    let pairs = pairs.iter().map(|(n, v)| (*n, v.as_bytes().to_vec())).collect();
    let head = Fake { pairs, reads: Default::default() };
    let found = Sources { from: from.to_vec(), several }.find(&Request::new(&head)).unwrap().into_owned();
    assert_eq!(head.reads.get(), 1, "one read of the host, whatever the sources");
    found
}

fn bearer() -> Source {
    Source::Bearer("authorization".to_owned())
}

fn header() -> Source {
    Source::Header("x-api-key".to_owned())
}

fn query() -> Source {
    Source::Query("key".to_owned())
}

fn cookie() -> Source {
    Source::Cookie("api_key".to_owned())
}

/// Alone and beside an unused source, which takes the other way of reading: the answer is the same.
fn each_way(source: &Source, pairs: &[(&'static str, &str)]) -> Found<'static> {
    let unused = Source::Header("x-unused".to_owned());
    let alone = find(std::slice::from_ref(source), Several::Refuse, pairs);
    let among = find(&[source.clone(), unused], Several::Refuse, pairs);
    assert_eq!(alone, among);
    alone
}

#[test]
fn the_scheme_is_compared_without_case() {
    for value in ["Bearer K", "bearer K", "BEARER K", "bEaReR   K  ", "Bearer\tK"] {
        assert_eq!(each_way(&bearer(), &[("authorization", value)]), Found::Key(key("K")), "{value:?}");
    }
    for value in ["", "BearerK", "Basic K", "K", "Digest a=\"b\", c=\"d\"", "Bear"] {
        assert_eq!(each_way(&bearer(), &[("authorization", value)]), Found::Missing, "{value:?}");
    }
    for value in ["Bearer", "Bearer ", "bearer \t"] {
        assert_eq!(each_way(&bearer(), &[("authorization", value)]), Found::Empty, "{value:?}");
    }
    for value in ["Bearer K 1", "Bearer K\t1"] {
        assert_eq!(each_way(&bearer(), &[("authorization", value)]), Found::Ambiguous, "{value:?}");
    }
}

#[test]
fn a_repeated_header_is_ambiguous_in_whatever_form_it_comes() {
    for values in [&["a", "b"][..], &["a", "a"], &["a,b"], &["a, a"], &["", "a"], &["a", ""], &["a,"], &[",a"]] {
        let pairs: Vec<_> = values.iter().map(|value| ("x-api-key", *value)).collect();
        assert_eq!(each_way(&header(), &pairs), Found::Ambiguous, "{values:?}");
    }
    for values in [
        &["Bearer a", "Bearer b"][..],
        &["Bearer a,Bearer b"],
        &["Basic x", "Bearer b"],
        &["Basic x, bearer b"],
        &["Bearer a,b"],
    ] {
        let pairs: Vec<_> = values.iter().map(|value| ("authorization", *value)).collect();
        assert_eq!(each_way(&bearer(), &pairs), Found::Ambiguous, "{values:?}");
    }
}

#[test]
fn a_query_parameter_is_compared_percent_decoded() {
    for path in [
        "/?key=K",
        "/?k%65y=K",
        "/a?b=c&key=%4B&d",
        "/?key=K#fragment",
        "/?key=K%20",
        "/?key=%09K",
        "/?key&key2=K&%6b%65%79x=1",
    ] {
        let expected = if path.contains("key&") { Found::Empty } else { Found::Key(key("K")) };
        assert_eq!(each_way(&query(), &[(":path", path)]), expected, "{path}");
    }
    for path in ["/?key=a&key=b", "/?key=a&k%65y=a", "/?key=&key=a", "/?key&key=a"] {
        assert_eq!(each_way(&query(), &[(":path", path)]), Found::Ambiguous, "{path}");
    }
    for path in ["/?key=", "/?key", "/?key=%20"] {
        assert_eq!(each_way(&query(), &[(":path", path)]), Found::Empty, "{path}");
    }
    for path in ["/", "/?", "/key=K", "/#?key=K#", "/?KEY=K"] {
        let found = each_way(&query(), &[(":path", path)]);
        // A fragment is never sent; what stands behind a question mark is the query.
        assert_eq!(found, if path.starts_with("/#") { Found::Key(key("K")) } else { Found::Missing }, "{path}");
    }
}

#[test]
fn a_cookie_is_found_among_others() {
    for value in ["api_key=K", "a=b; api_key=K; c=d", "a=b;api_key = \"K\" ", "apikey=x; api_key=K"] {
        assert_eq!(each_way(&cookie(), &[("cookie", value)]), Found::Key(key("K")), "{value}");
    }
    assert_eq!(each_way(&cookie(), &[("cookie", "a=b"), ("cookie", "api_key=K")]), Found::Key(key("K")));
    assert_eq!(each_way(&cookie(), &[("cookie", "api_key=a; api_key=a")]), Found::Ambiguous);
    assert_eq!(each_way(&cookie(), &[("cookie", "api_key=a"), ("cookie", "api_key=b")]), Found::Ambiguous);
    assert_eq!(each_way(&cookie(), &[("cookie", "API_KEY=a; xapi_key=b; api_key")]), Found::Missing);
}

#[test]
fn two_sources_with_a_key_are_ambiguous_unless_the_first_is_asked_for() {
    let from = [bearer(), header(), query(), cookie()];
    let two = [("authorization", "Bearer A"), ("x-api-key", "B"), (":path", "/")];
    assert_eq!(find(&from, Several::Refuse, &two), Found::Ambiguous);
    assert_eq!(find(&from, Several::First, &two), Found::Key(key("A")));
    let same = [("x-api-key", "A"), ("cookie", "api_key=A")];
    assert_eq!(find(&from, Several::Refuse, &same), Found::Ambiguous);
    assert_eq!(find(&from, Several::First, &[("x-api-key", "A"), ("authorization", "Bearer ")]), Found::Key(key("A")));
    assert_eq!(find(&from, Several::Refuse, &[("x-api-key", "A"), ("authorization", "Bearer ")]), Found::Key(key("A")));
    assert_eq!(find(&from, Several::Refuse, &[("x-api-key", ""), ("cookie", "api_key=")]), Found::Empty);
    assert_eq!(find(&from, Several::Refuse, &[]), Found::Missing);
    // The first source wins over another source, not over itself.
    assert_eq!(find(&from, Several::First, &[("x-api-key", "A,B"), ("authorization", "Bearer C")]), Found::Ambiguous);
}

#[test]
fn a_key_may_be_what_an_earlier_filter_left_in_metadata() {
    let path = |name: &str| Source::Metadata(vec!["earlier.filter".to_owned(), name.to_owned()]);
    let from = [header(), path("key")];
    assert_eq!(find(&from, Several::Refuse, &[]), Found::Key(key("from-metadata")));
    assert_eq!(find(&from, Several::Refuse, &[("x-api-key", "K")]), Found::Ambiguous);
    assert_eq!(find(&[header(), path("none")], Several::Refuse, &[]), Found::Missing);
}

#[test]
fn keys_and_hashes_are_never_printed() {
    let hash = KeyHash::from_hex("bb9f55b5ca7e3e1d1ba2b9d1b3a6ff0b6f0c24a08d8fae7b1b8bd4e37f5b6ddc").unwrap();
    assert_eq!(format!("{:?} {:?}", key("secret"), hash), "ApiKey(…) KeyHash(…)");
}

#[test]
fn hashes_are_those_of_sha256sum() {
    let empty = "E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855";
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!(KeyHash::from_hex(abc), Some(key("abc").hash()));
    assert!(KeyHash::from_hex(empty).is_some());
    for text in ["", "ba78", &abc[1..], &format!("{abc}0"), &abc.replace('b', "g")] {
        assert_eq!(KeyHash::from_hex(text), None, "{text}");
    }
}

proptest! {
    #[test]
    fn any_bytes_in_any_place_have_an_answer(
        auth in prop::collection::vec(any::<u8>(), 0..60),
        path in prop::collection::vec(any::<u8>(), 0..60),
        cookies in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let pairs = vec![("authorization", auth.clone()), (":path", path), ("cookie", cookies), ("x-api-key", auth)];
        let head = Fake { pairs, reads: Default::default() };
        for several in [Several::Refuse, Several::First] {
            for from in [vec![bearer()], vec![header()], vec![query()], vec![cookie()], vec![bearer(), header(), query(), cookie()]] {
                Sources { from, several }.find(&Request::new(&head)).unwrap();
            }
        }
    }
}
