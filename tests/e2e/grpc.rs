//! gRPC callers: Python's grpcio, a real client, sees status codes and our sentence.

use crate::asking::{consumer, counted, decisions};
use crate::broken_host;
use crate::support::envoy::{Builder, Envoy};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

/// A run of `grpc_client.py`, ended with its owner.
struct Script {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Script {
    fn run(arguments: &[&str]) -> Self {
        let packages = std::env::var("ALLOWANCE_PYTHON")
            .unwrap_or_else(|_| panic!("ALLOWANCE_PYTHON is not set: run \"make test\""));
        let python = std::env::var("PYTHON").unwrap_or_else(|_| "python3".to_owned());
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/grpc_client.py");
        let mut child = Command::new(&python)
            .arg("-B")
            .arg(script)
            .args(arguments)
            .env("PYTHONPATH", packages)
            // A proxy in the environment is not for this machine's own addresses.
            .env("no_grpc_proxy", "127.0.0.1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{python} cannot be run: {error}"));
        let (input, output) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, input, output }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What one call came to.
#[derive(Debug)]
struct Answer(Value);

impl Answer {
    fn code(&self) -> u64 {
        self.0["code"].as_u64().unwrap()
    }

    fn details(&self) -> &str {
        self.0["details"].as_str().unwrap()
    }

    /// Leading and trailing metadata.
    fn metadata(&self, name: &str) -> Option<&str> {
        let entries = self.0["metadata"].as_array().unwrap();
        entries.iter().find(|entry| entry[0] == name).and_then(|entry| entry[1].as_str())
    }
}

/// Makes these calls one after the other on one channel, each with its metadata.
fn call(envoy: &Envoy, calls: &[&[(&str, &str)]]) -> Vec<Answer> {
    call_with(envoy, calls, &[])
}

fn call_with(envoy: &Envoy, calls: &[&[(&str, &str)]], more: &[&str]) -> Vec<Answer> {
    let address = envoy.addr().to_string();
    let mut client = Script::run(&[&["call", address.as_str()], more].concat());
    let mut input = client.input.take().unwrap();
    for metadata in calls {
        let pairs: Vec<_> = metadata.iter().map(|(name, value)| json!([name, value])).collect();
        writeln!(input, "{}", json!(pairs)).unwrap();
    }
    drop(input);
    let mut text = String::new();
    client.output.read_to_string(&mut text).unwrap();
    let answers: Vec<Answer> = text.lines().map(|line| Answer(serde_json::from_str(line).unwrap())).collect();
    assert_eq!(answers.len(), calls.len(), "{text}");
    answers
}

/// An Envoy in front of a gRPC service.
fn service(configuration: &str) -> (Builder, Script) {
    let mut server = Script::run(&["serve"]);
    let port = server.line();
    assert!(port.parse::<u16>().is_ok(), "the service did not start: {port:?}");
    let cluster = format!(
        r#"- name: service
  type: STATIC
  typed_extension_protocol_options:
    envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
      "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
      explicit_http_config: {{http2_protocol_options: {{}}}}
  load_assignment:
    cluster_name: service
    endpoints: [{{lb_endpoints: [{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}}}}}]}}]
"#
    );
    let builder =
        Envoy::with(configuration).clusters(&cluster).routes("- {match: {prefix: /}, route: {cluster: service}}");
    (builder, server)
}

fn configuration() -> String {
    format!(
        "api_key: {{from: [{{bearer: authorization}}, {{header: x-api-key}}]}}
plans:
  free: {{limits: [{{requests: 2, per: 300d}}]}}
consumers: [{}, {}]
",
        consumer("acme", "free", &["a"], ""),
        consumer("gone", "free", &["g"], ", disabled: true")
    )
}

#[test]
fn grpcio_sees_our_codes_and_sentences() {
    let (builder, _server) = service(&configuration());
    let envoy = builder.access_log("%RESPONSE_CODE% %GRPC_STATUS_NUMBER% %RESPONSE_CODE_DETAILS%").start();
    let answers = call(
        &envoy,
        &[
            &[("x-api-key", "a")],
            &[("authorization", "Bearer a")],
            &[("x-api-key", "a")],
            &[],
            &[("x-api-key", "nobody's")],
            &[("x-api-key", "a"), ("authorization", "Bearer a")],
            &[("x-api-key", "a"), ("x-api-key", "b")],
            &[("x-api-key", "g")],
        ],
    );
    for (answer, left) in answers[..2].iter().zip([1, 0]) {
        assert_eq!((answer.code(), &answer.0["response"]), (0, &json!("you said hello")), "{answer:?}");
        assert!(answer.metadata("ratelimit").unwrap().starts_with(&format!("\"300d\";r={left};t=")), "{answer:?}");
    }
    let denied = &answers[2];
    let wait = denied.metadata("retry-after").expect("a denial says when to come back");
    assert_eq!(
        (denied.code(), denied.details()),
        (8, format!("Exceeded the allowed number of requests: 2 per 300d. Retry after {wait} s.").as_str())
    );
    assert_eq!(denied.metadata("x-ratelimit-limit"), Some("2"));
    assert!(denied.metadata("ratelimit").unwrap().starts_with("\"300d\";r=0;t="), "{denied:?}");
    let codes: Vec<u64> = answers.iter().map(Answer::code).collect();
    assert_eq!(codes, [0, 0, 8, 16, 16, 3, 3, 7]);
    let details: Vec<&str> = answers[3..].iter().map(Answer::details).collect();
    let missing = r#"Missing API key. Send it as "authorization: Bearer <key>" or "x-api-key: <key>"."#;
    let several = "More than one API key. Send exactly one.";
    assert_eq!(details[..4], [missing, "Invalid API key.", several, several]);
    // Sentences, not JSON, and nothing of HTTP's.
    for answer in &answers[2..] {
        assert!(!answer.details().is_empty() && !answer.details().contains(['{', '}']), "{answer:?}");
        assert_eq!(answer.0["response"], Value::Null);
    }
    // Trailers only: HTTP itself succeeds.
    let log = envoy.access_log(8);
    assert_eq!(log[2..4], ["200 8 allowance_over_limit{300d}", "200 16 allowance_missing_api_key"]);
    let expected = [("allowed", 2), ("denied", 1), ("disabled", 1), ("invalid", 2), ("unauthorized", 2)];
    assert_eq!(decisions(&envoy), counted(&expected));
}

/// A message that gRPC has to escape on its way, and no names of limits where they are not to be exposed.
#[test]
fn grpcio_sees_the_configured_message_as_it_is() {
    let configuration = format!("denial: {{message: 'Genug für heute: 100 %', expose: false}}\n{}", configuration());
    let (builder, _server) = service(&configuration);
    let envoy = builder.start();
    let keyed: &[(&str, &str)] = &[("x-api-key", "a")];
    let answers = call(&envoy, &[keyed; 3]);
    let codes: Vec<u64> = answers.iter().map(Answer::code).collect();
    assert_eq!(codes, [0, 0, 8]);
    let wait = answers[2].metadata("retry-after").unwrap();
    assert_eq!(answers[2].details(), format!("Genug für heute: 100 %. Retry after {wait} s."));
    assert!(!answers[2].0.to_string().contains("300d"), "{:?}", answers[2]);
}

#[test]
fn grpcio_sees_a_limiter_that_cannot_decide_as_unavailable() {
    let (builder, _server) = service(&format!("failure_mode: deny\n{}", configuration()));
    let envoy = broken_host::without("proxy_get_current_time_nanoseconds", builder);
    let answers = call(&envoy, &[&[("x-api-key", "a")]]);
    assert_eq!((answers[0].code(), answers[0].details()), (14, "The rate limiter is unavailable. Try again."));
    assert_eq!(decisions(&envoy), counted(&[("error", 1)]));
}

/// Whoever only looks like gRPC is answered as anybody else over HTTP.
#[test]
fn other_content_types_are_not_grpc() {
    let envoy = Envoy::with(&configuration()).start();
    for content_type in ["application/json", "application/grpc-web+proto", "application/grpcish", "text/grpc"] {
        let response = envoy.get("/", &[("content-type", content_type)]);
        assert_eq!(response.status, 401, "{content_type}");
        assert_eq!(response.json()["error"]["code"], "missing_api_key", "{content_type}");
    }
    for content_type in ["application/grpc", "application/grpc+proto"] {
        let response = envoy.get("/", &[("content-type", content_type)]);
        assert_eq!((response.status, response.header("grpc-status").as_deref()), (200, Some("16")), "{content_type}");
        assert_eq!(response.body, b"", "{content_type}");
    }
}

/// The fields of a protobuf message that are of variable length.
fn messages(mut message: &[u8]) -> Vec<(u32, Vec<u8>)> {
    let mut fields = Vec::new();
    while !message.is_empty() {
        let (field, wire) = prost::encoding::decode_key(&mut message).unwrap();
        let number = prost::encoding::decode_varint(&mut message).unwrap();
        match wire {
            prost::encoding::WireType::Varint => {}
            prost::encoding::WireType::LengthDelimited => {
                let (value, rest) = message.split_at(usize::try_from(number).unwrap());
                fields.push((field, value.to_vec()));
                message = rest;
            }
            other => panic!("{other:?}"),
        }
    }
    fields
}

/// From one filter and one counter: gRPC clients see a status with details, others HTTP's.
#[test]
fn grpcio_sees_a_resource_exhausted_with_retry_info_where_http_sees_429() {
    let configuration =
        configuration().replace("requests: 2, per: 300d", "requests: 2, per: 200s, algorithm: token_bucket");
    let (builder, _server) = service(&configuration);
    let envoy = builder.start();
    let keyed: &[(&str, &str)] = &[("x-api-key", "a")];
    let answers = call(&envoy, &[keyed; 3]);
    let denied = &answers[2];
    assert_eq!((denied.code(), &denied.0["name"]), (8, &json!("RESOURCE_EXHAUSTED")));
    let number = |name| denied.metadata(name).unwrap().parse::<i64>().unwrap();
    let ms = number("retry-after-ms");
    assert!((99_000..=100_000).contains(&ms), "{ms}");
    assert_eq!(number("retry-after"), (ms + 999) / 1000);
    assert_eq!(number("grpc-retry-pushback-ms"), -1, "longer than a client should wait by itself");
    let details = denied.metadata("grpc-status-details-bin").unwrap();
    let details: Vec<u8> =
        (0..details.len() / 2).map(|i| u8::from_str_radix(&details[2 * i..2 * i + 2], 16).unwrap()).collect();
    let status = messages(&details);
    assert_eq!(status[0], (2, denied.details().as_bytes().to_vec()), "the status's message is the call's");
    let any: Vec<prost_types::Any> =
        status[1..].iter().map(|(_, any)| prost::Message::decode(any.as_slice()).unwrap()).collect();
    let kinds: Vec<&str> = any.iter().map(|any| any.type_url.as_str()).collect();
    assert_eq!(kinds, ["type.googleapis.com/google.rpc.RetryInfo", "type.googleapis.com/google.rpc.QuotaFailure"]);
    let delay: prost_types::Duration = prost::Message::decode(messages(&any[0].value)[0].1.as_slice()).unwrap();
    assert_eq!(delay.seconds * 1000 + i64::from(delay.nanos) / 1_000_000, ms);
    let violation = messages(&messages(&any[1].value)[0].1);
    assert_eq!(violation, [(1, b"200s".to_vec()), (2, b"2 requests per 200s".to_vec())]);
    let plain = envoy.get("/allowance.test.Echo/Say", keyed);
    assert_eq!((plain.status, plain.json()["error"]["code"].as_str()), (429, Some("rate_limit_exceeded")));
    assert_eq!(plain.header("grpc-retry-pushback-ms"), None);
    assert_eq!(decisions(&envoy), counted(&[("allowed", 2), ("denied", 2)]));
}

/// The client's own retries: as pushback says, whatever its policy has for a backoff.
#[test]
fn grpcio_retries_when_pushback_says_and_not_when_it_says_no() {
    let limit = |limit: &str| configuration().replace("requests: 2, per: 300d", limit);
    let keyed: &[(&str, &str)] = &[("x-api-key", "a")];
    let (builder, _server) = service(&limit("requests: 1, per: 2s, algorithm: token_bucket"));
    let envoy = builder.start();
    let answers = call_with(&envoy, &[keyed; 2], &["retry"]);
    assert_eq!(answers.iter().map(Answer::code).collect::<Vec<_>>(), [0, 0]);
    assert_eq!(decisions(&envoy), counted(&[("allowed", 2), ("denied", 1)]), "one retry, at the right time");
    let (builder, _server) = service(&limit("requests: 1, per: 300d"));
    let envoy = builder.start();
    let answers = call_with(&envoy, &[keyed; 2], &["retry"]);
    assert_eq!(answers.iter().map(Answer::code).collect::<Vec<_>>(), [0, 8]);
    assert_eq!(decisions(&envoy), counted(&[("allowed", 1), ("denied", 1)]), "no retry");
}
