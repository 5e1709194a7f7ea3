//! What was lent never comes back, in whatever form and however it is cut.

use std::collections::VecDeque;
use std::io::Write;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use flate2::Compression;
use http::Response;
use http_body::{Body, Frame};
use proptest::prelude::*;
use writ_core::{Placement, Secret};

use super::*;

const SECRET: &str = "ghs_s3cr3t/Value+42=";

fn scrubber(secret: &str) -> Scrubber {
    let place = Placement::Basic { user: "x-access-token".into() };
    let credential = Credential { place, secret: Secret::<str>::new(secret.into()).unwrap() };
    Scrubber::new(&[credential], Arc::default()).unwrap()
}

fn hits(scrubber: &Scrubber) -> u64 {
    scrubber.hits.load(Ordering::Relaxed)
}

/// A body of these frames.
struct Frames(VecDeque<Frame<Bytes>>);

impl Body for Frames {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(self.0.pop_front().map(Ok))
    }
}

/// Sends the chunks as an answer with these headers; gives the head, the body, and whether it ended well.
fn relay(scrubber: &Scrubber, headers: &[(&str, &str)], chunks: &[&[u8]]) -> (Parts, Vec<u8>, bool) {
    let mut builder = Response::builder();
    for (name, value) in headers {
        builder = builder.header(*name, *value);
    }
    let mut parts = builder.body(()).unwrap().into_parts().0;
    if headers.iter().any(|(name, _)| *name == "content-range") {
        parts.status = StatusCode::PARTIAL_CONTENT;
    }
    let treatment = scrubber.head(&Method::GET, &mut parts).unwrap();
    let frames = chunks.iter().map(|chunk| Frame::data(Bytes::copy_from_slice(chunk))).collect();
    let (body, well) = read(scrubber.body(Frames(frames), treatment));
    (parts, body, well)
}

fn read(body: ScrubbedBody<Frames>) -> (Vec<u8>, bool) {
    let mut body = std::pin::pin!(body);
    let mut out = Vec::new();
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        match body.as_mut().poll_frame(&mut cx) {
            Poll::Ready(Some(Ok(frame))) => out.extend_from_slice(&frame.into_data().unwrap_or_default()),
            Poll::Ready(Some(Err(_))) => return (out, false),
            Poll::Ready(None) => return (out, true),
            Poll::Pending => unreachable!("the frames are ready"),
        }
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

fn encode(coding: &str, plain: &[u8]) -> Vec<u8> {
    match coding {
        "gzip" => {
            let mut writer = flate2::write::GzEncoder::new(Vec::new(), Compression::fast());
            writer.write_all(plain).unwrap();
            writer.finish().unwrap()
        }
        "deflate" => {
            let mut writer = flate2::write::ZlibEncoder::new(Vec::new(), Compression::fast());
            writer.write_all(plain).unwrap();
            writer.finish().unwrap()
        }
        "raw-deflate" => {
            let mut writer = flate2::write::DeflateEncoder::new(Vec::new(), Compression::fast());
            writer.write_all(plain).unwrap();
            writer.finish().unwrap()
        }
        "br" => {
            let mut out = Vec::new();
            let mut writer = brotli::CompressorWriter::new(&mut out, 4096, 5, 18);
            writer.write_all(plain).unwrap();
            drop(writer);
            out
        }
        "zstd" => zstd::stream::encode_all(plain, 3).unwrap(),
        "" => plain.to_vec(),
        _ => coding.split(", ").fold(plain.to_vec(), |plain, coding| encode(coding, &plain)),
    }
}

fn echo() -> Vec<u8> {
    format!("{{\"you sent\": \"Bearer {SECRET}\", \"ok\": true}}\n").into_bytes()
}

#[test]
fn an_echo_is_scrubbed_in_every_encoding_however_it_is_cut() {
    for coding in ["", "gzip", "deflate", "raw-deflate", "br", "zstd", "gzip, br", "br, zstd, gzip"] {
        let sent = encode(coding, &echo());
        let name = if coding == "raw-deflate" { "deflate" } else { coding };
        for cut in 0..=sent.len() {
            let (before, after) = sent.split_at(cut);
            let scrubber = scrubber(SECRET);
            let (parts, body, well) = relay(&scrubber, &[("content-encoding", name)], &[before, after]);
            assert!(well, "{coding} cut at {cut}");
            assert_eq!(body.len(), echo().len(), "{coding} cut at {cut}");
            assert!(!contains(&body, &SECRET.as_bytes()[2..]), "{coding} cut at {cut}");
            assert_eq!(hits(&scrubber), 1, "{coding} cut at {cut}");
            assert!(coding.is_empty() || !parts.headers.contains_key("content-encoding"));
        }
        let scrubber = scrubber(SECRET);
        let bytes: Vec<&[u8]> = sent.chunks(1).collect();
        let (_, body, well) = relay(&scrubber, &[("content-encoding", name)], &bytes);
        assert!(well && !contains(&body, &SECRET.as_bytes()[2..]), "{coding} byte by byte");
    }
}

#[test]
fn every_form_is_found() {
    use base64::Engine;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    let json = serde_json::to_string(SECRET).unwrap().replace('/', "\\/");
    let hex = SECRET.bytes().map(|b| format!("{b:02x}")).collect::<Vec<_>>().concat();
    let mut forms = vec![
        SECRET.to_owned(),
        "ghs_s3cr3t%2FValue%2B42%3D".to_owned(),
        "ghs_s3cr3t%2fValue%2b42%3d".to_owned(),
        "ghs_s3cr3t/Value%2B42%3D".to_owned(),
        "ghs_s3cr3t/Value&#43;42=".to_owned(),
        json,
        hex.clone(),
        hex.to_uppercase(),
    ];
    for before in ["", "a", "ab", "abc"] {
        for after in ["", "z", "zy"] {
            forms.push(STANDARD.encode(format!("{before}{SECRET}{after}")));
            forms.push(URL_SAFE_NO_PAD.encode(format!("{before}{SECRET}{after}")));
        }
    }
    forms.push(STANDARD.encode(format!("x-access-token:{SECRET}")));
    for form in forms {
        let scrubber = scrubber(SECRET);
        let sent = format!("<{form}>");
        let (_, body, _) = relay(&scrubber, &[], &[sent.as_bytes()]);
        assert_eq!(hits(&scrubber), 1, "{form}");
        assert_eq!(body.len(), sent.len());
        let stars = memchr::memchr_iter(b'*', &body).count();
        assert!(
            stars >= SECRET.len() && stars + 10 >= form.len(),
            "{form} became {}",
            String::from_utf8_lossy(&body)
        );
    }
}

#[test]
fn headers_cookies_redirects_and_trailers_are_scrubbed() {
    let scrubber = scrubber(SECRET);
    let mut parts = Response::builder()
        .header("location", "https://h.test/?t=ghs_s3cr3t%2FValue%2B42%3D")
        .header("set-cookie", format!("t={SECRET}; Path=/"))
        .header("x-echo-676873", "kept")
        .header("content-type", "text/plain")
        .body(())
        .unwrap()
        .into_parts()
        .0;
    scrubber.head(&Method::GET, &mut parts).unwrap();
    assert_eq!(parts.headers["location"], "https://h.test/?t=**************************");
    assert_eq!(parts.headers["set-cookie"], "t=********************; Path=/");
    assert_eq!(parts.headers["content-type"], "text/plain");
    assert_eq!(hits(&scrubber), 2);

    let mut trailers = HeaderMap::new();
    trailers.insert("x-echo", HeaderValue::from_static(SECRET));
    let treatment = scrubber.head(&Method::GET, &mut parts).unwrap();
    let mut body = std::pin::pin!(scrubber.body(Frames([Frame::trailers(trailers)].into()), treatment));
    let frame = body.as_mut().poll_frame(&mut Context::from_waker(Waker::noop()));
    let Poll::Ready(Some(Ok(frame))) = frame else { panic!("no trailers") };
    assert_eq!(frame.into_trailers().unwrap()["x-echo"], "********************");
}

#[test]
fn a_secret_as_header_name_goes_with_its_header() {
    let scrubber = scrubber("Abcdefgh12345");
    let mut headers = HeaderMap::new();
    headers.insert("x-abcdefgh12345", HeaderValue::from_static("1"));
    scrubber.headers(&mut headers);
    assert!(headers.is_empty() && hits(&scrubber) == 1);
}

#[test]
fn short_secrets_go_from_headers_as_whole_words_only() {
    let scrubber = scrubber("abc12");
    let mut headers = HeaderMap::new();
    headers.insert("x-one", HeaderValue::from_static("Bearer abc12"));
    headers.insert("x-two", HeaderValue::from_static("xabc123"));
    scrubber.headers(&mut headers);
    assert_eq!(headers["x-one"], "************");
    assert_eq!(headers["x-two"], "xabc123");
}

#[test]
fn unknown_encodings_and_parts_of_encoded_bodies_are_refused() {
    let scrubber = scrubber(SECRET);
    let head = |method: &Method, status: u16, coding: &str| {
        let response = Response::builder().status(status).header("content-encoding", coding).body(());
        scrubber.head(method, &mut response.unwrap().into_parts().0).map(|treatment| treatment.codings.len())
    };
    assert_eq!(head(&Method::GET, 200, "dcb"), Err(Reason::EchoUnreadable));
    assert_eq!(head(&Method::GET, 200, "gzip, gzip, gzip, gzip, gzip"), Err(Reason::EchoUnreadable));
    assert_eq!(head(&Method::GET, 206, "gzip"), Err(Reason::EchoUnreadable));
    assert_eq!(head(&Method::GET, 206, "identity"), Ok(0));
    assert_eq!(head(&Method::HEAD, 200, "dcb"), Ok(0));
    assert_eq!(head(&Method::GET, 304, "gzip"), Ok(1));
    assert_eq!(head(&Method::GET, 200, "GZIP"), Ok(1));
}

#[test]
fn what_is_decoded_loses_length_digest_and_strong_tag() {
    let scrubber = scrubber(SECRET);
    let headers =
        [("content-encoding", "gzip"), ("content-length", "9"), ("etag", "\"e\""), ("content-digest", "x")];
    let (parts, body, well) = relay(&scrubber, &headers, &[]);
    assert!(well && body.is_empty(), "an empty body is complete in any encoding");
    assert_eq!(parts.headers["etag"], "W/\"e\"");
    assert_eq!(parts.headers.len(), 1);
    let (parts, ..) = relay(&scrubber, &[("content-length", "0"), ("etag", "\"e\"")], &[]);
    assert_eq!(parts.headers["etag"], "\"e\"");
    assert_eq!(parts.headers["content-length"], "0");
}

#[test]
fn an_encoded_body_that_is_cut_short_does_not_end_well() {
    for coding in ["gzip", "deflate", "br", "zstd"] {
        let sent = encode(coding, &echo());
        let (_, _, well) =
            relay(&scrubber(SECRET), &[("content-encoding", coding)], &[&sent[..sent.len() - 1]]);
        assert!(!well, "{coding}");
    }
}

#[test]
fn a_part_that_begins_or_ends_inside_the_secret_shows_less_than_three_bytes_of_it() {
    let whole = echo();
    let at = whole.windows(SECRET.len()).position(|w| w == SECRET.as_bytes()).unwrap();
    for cut in 1..SECRET.len() {
        let range = [("content-range", "bytes 0-1/2")];
        let (first, second) = whole.split_at(at + cut);
        let (_, first, _) = relay(&scrubber(SECRET), &range, &[first]);
        let (_, second, _) = relay(&scrubber(SECRET), &range, &[second]);
        assert!(first.len() + second.len() == whole.len());
        let shown = [first, second].concat()[at..at + SECRET.len()].iter().filter(|b| **b != b'*').count();
        assert!(shown < HOLD * 2, "{shown} of the secret shown when cut at {cut}");
    }
}

const HOLD: usize = flow::HOLD_BYTES_MIN;

#[test]
fn an_event_goes_out_with_the_chunk_that_completes_it() {
    for coding in ["", "gzip"] {
        let scrubber = scrubber(SECRET);
        let mut parts =
            Response::builder().header("content-encoding", coding).body(()).unwrap().into_parts().0;
        let treatment = scrubber.head(&Method::GET, &mut parts).unwrap();
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Compression::fast());
        let mut frames = VecDeque::new();
        for event in ["data: one\n\n", "data: two\n\n"] {
            encoder.write_all(event.as_bytes()).unwrap();
            encoder.flush().unwrap();
            let zipped = std::mem::take(encoder.get_mut());
            let bytes = if coding.is_empty() { Bytes::from(event) } else { Bytes::from(zipped) };
            frames.push_back(Frame::data(bytes));
        }
        let mut body = std::pin::pin!(scrubber.body(Frames(frames), treatment));
        for event in ["data: one\n\n", "data: two\n\n"] {
            let frame = body.as_mut().poll_frame(&mut Context::from_waker(Waker::noop()));
            let Poll::Ready(Some(Ok(frame))) = frame else { panic!("nothing came") };
            assert_eq!(frame.into_data().unwrap(), event, "{coding}");
        }
    }
}

#[test]
fn a_bomb_is_decoded_in_bounded_steps() {
    let zeros = vec![0u8; 32 * 1024 * 1024];
    for coding in ["gzip", "deflate", "br", "zstd"] {
        let sent = encode(coding, &zeros);
        let mut parts =
            Response::builder().header("content-encoding", coding).body(()).unwrap().into_parts().0;
        let scrubber = scrubber(SECRET);
        let treatment = scrubber.head(&Method::GET, &mut parts).unwrap();
        let mut body =
            std::pin::pin!(scrubber.body(Frames([Frame::data(Bytes::from(sent))].into()), treatment));
        let mut total = 0;
        while let Poll::Ready(Some(frame)) = body.as_mut().poll_frame(&mut Context::from_waker(Waker::noop()))
        {
            let length = frame.unwrap().into_data().unwrap().len();
            assert!(length <= 128 * 1024, "{coding}: {length} bytes at once");
            total += length;
        }
        assert_eq!(total, zeros.len(), "{coding}");
    }
}

fn cut<'a>(text: &'a [u8], sizes: &[usize]) -> Vec<&'a [u8]> {
    let mut rest = text;
    let mut chunks = Vec::new();
    for size in sizes {
        let (chunk, after) = rest.split_at((*size).min(rest.len()));
        chunks.push(chunk);
        rest = after;
    }
    chunks.push(rest);
    chunks
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn without_the_secret_bytes_are_identical(
        body in proptest::collection::vec(any::<u8>(), 0..2000),
        near in "[ghs_3cr]{0,40}",
        sizes in proptest::collection::vec(0usize..200, 0..12),
    ) {
        let sent = [body.as_slice(), near.as_bytes(), &body].concat();
        let scrubber = scrubber(SECRET);
        let (_, out, well) = relay(&scrubber, &[], &cut(&sent, &sizes));
        prop_assert!(well);
        prop_assert_eq!(out, sent);
        prop_assert_eq!(hits(&scrubber), 0);
    }

    #[test]
    fn a_planted_secret_never_comes_through(
        secret in "[!-~]{8,60}",
        before in proptest::collection::vec(any::<u8>(), 0..300),
        times in 1usize..4,
        sizes in proptest::collection::vec(0usize..40, 0..30),
        coding in prop_oneof![Just(""), Just("gzip"), Just("deflate"), Just("br"), Just("zstd")],
    ) {
        let mut plain = before.clone();
        for _ in 0..times {
            plain.extend_from_slice(secret.as_bytes());
        }
        plain.extend_from_slice(&before);
        let sent = encode(coding, &plain);
        let scrubber = scrubber(&secret);
        let (_, out, well) = relay(&scrubber, &[("content-encoding", coding)], &cut(&sent, &sizes));
        prop_assert!(well);
        prop_assert_eq!(out.len(), plain.len());
        prop_assert!(!contains(&out, secret.as_bytes()));
        let shown = out.get(before.len() + HOLD - 1..before.len() + secret.len()).unwrap();
        prop_assert!(shown.iter().all(|b| *b == b'*'));
        prop_assert!(hits(&scrubber) >= 1);
    }

    #[test]
    fn search_agrees_with_the_naive_one(
        needles in proptest::collection::vec("[ab]{3,9}", 1..5),
        text in "[ab]{0,60}",
        from in 0usize..10,
    ) {
        let forms = needles.iter().map(|n| Zeroizing::new(n.clone().into_bytes())).collect();
        let searched = Needles::new(forms);
        let naive = (from..text.len()).find_map(|at| {
            let rest = text.get(at..).unwrap();
            needles.iter().filter(|n| rest.starts_with(n.as_str())).map(String::len).max().map(|len| (at, len))
        });
        prop_assert_eq!(searched.find(text.as_bytes(), from), naive);
        let begun = (0..text.len()).find(|at| {
            needles.iter().any(|n| n.len() > text.len() - at && n.starts_with(text.get(*at..).unwrap()))
        });
        prop_assert_eq!(searched.begun(text.as_bytes()), begun.map_or(0, |at| text.len() - at));
    }

    #[test]
    fn decoders_never_panic_on_garbage(
        garbage in proptest::collection::vec(any::<u8>(), 0..300),
        flip in any::<prop::sample::Index>(),
        sizes in proptest::collection::vec(0usize..60, 0..6),
        coding in prop_oneof![Just("gzip"), Just("deflate"), Just("br"), Just("zstd"), Just("gzip, zstd")],
    ) {
        relay(&scrubber(SECRET), &[("content-encoding", coding)], &cut(&garbage, &sizes));
        let mut sent = encode(coding, &echo());
        let at = flip.index(sent.len());
        sent[at] ^= 0x55;
        relay(&scrubber(SECRET), &[("content-encoding", coding)], &cut(&sent, &sizes));
    }
}

/// Prints what a clean KiB costs: `cargo test --release -- --ignored --nocapture cost`.
#[test]
#[ignore = "a measurement"]
#[expect(clippy::disallowed_methods, reason = "it measures time")]
fn cost_of_a_clean_kib() {
    let text: Vec<u8> =
        (0..64 * 1024).map(|i: u32| b"the quick brown fox jumps {\"a\":1},\n"[(i % 35) as usize]).collect();
    let chunk = Bytes::from(text);
    for length in [8, 20, 40, 100, 500] {
        let secret = "Zq9_".repeat(length / 4);
        let start = std::time::Instant::now();
        for _ in 0..1000 {
            std::hint::black_box(scrubber(&secret));
        }
        let build = start.elapsed().as_nanos() / 1000;
        let mut flow = scrubber(&secret).flow();
        let start = std::time::Instant::now();
        for _ in 0..2000 {
            std::hint::black_box(flow.pass(std::hint::black_box(chunk.clone())));
        }
        let per_kib = start.elapsed().as_nanos() / 2000 / 64;
        println!("secret of {length} bytes: {per_kib} ns per KiB, {build} ns to build");
    }
}
