//! A refusal in the words of each protocol.

use http::Request;
use writ_core::ActionId;

use super::*;

fn refusal(reason: Reason) -> Refusal {
    Refusal { reason, action: Some(ActionId::from_bits(0x0192_0000_0000_0000_0000_0000_0000_0001)) }
}

const ID: &str = "01J80000000000000000000001";

fn golden(response: &Response<Bytes>) -> String {
    let mut out = format!("{}\n", response.status().as_u16());
    for (name, value) in response.headers() {
        out = out + name.as_str() + ": " + value.to_str().unwrap() + "\n";
    }
    out + "\n" + std::str::from_utf8(response.body()).unwrap()
}

#[test]
fn http_gets_a_problem_document() {
    assert_eq!(
        golden(&Voice::Http.refuse(&refusal(Reason::HumanNotPermitted))),
        format!(
            "403\ncontent-type: application/problem+json\ncache-control: no-store\n\
             writ-reason: policy.human_not_permitted\nwrit-action: {ID}\n\n\
             {{\"type\":\"urn:writ:reason:policy.human_not_permitted\",\"title\":\"refused by Writ\",\"status\":403,\
             \"detail\":\"no policy permits the human behind this agent to do this\",\
             \"code\":\"policy.human_not_permitted\",\"action\":\"{ID}\",\"hint\":\"run `writ why {ID}`\"}}"
        )
    );
}

#[test]
fn a_refused_method_names_those_that_are_relayed() {
    let refusal = Refusal { reason: Reason::MethodRefused, action: None };
    let answer = Voice::Http.refuse(&refusal);
    assert_eq!(answer.status(), 405);
    assert_eq!(answer.headers()["allow"], METHODS);
    assert!(!answer.headers().contains_key("writ-action"));
}

#[test]
fn grpc_gets_a_status_without_messages() {
    assert_eq!(
        golden(&Voice::Grpc.refuse(&refusal(Reason::AgentNotPermitted))),
        format!(
            "200\ncontent-type: application/grpc\ncache-control: no-store\n\
             writ-reason: policy.agent_not_permitted\nwrit-action: {ID}\ngrpc-status: 7\n\
             grpc-message: no policy permits this agent to do this (policy.agent_not_permitted); \
             run `writ why {ID}`\n\n"
        )
    );
    for (reason, code) in [
        (Reason::EvidenceUnavailable, "14"),
        (Reason::UpstreamTimeout, "4"),
        (Reason::BadRequest, "3"),
        (Reason::AgentForbidden, "7"),
    ] {
        assert_eq!(Voice::Grpc.refuse(&refusal(reason)).headers()["grpc-status"], code);
    }
}

#[test]
fn git_gets_lines_that_it_prints() {
    assert_eq!(
        golden(&Voice::Text.refuse(&refusal(Reason::AgentForbidden))),
        format!(
            "403\ncontent-type: text/plain; charset=utf-8\ncache-control: no-store\n\
             writ-reason: policy.agent_forbidden\nwrit-action: {ID}\n\n\
             refused by Writ: a policy forbids this agent to do this (policy.agent_forbidden)\n\
             hint: run `writ why {ID}`\n"
        )
    );
}

#[test]
fn a_connection_that_never_came_to_http_gets_bytes() {
    let refusal = Refusal { reason: Reason::NotTls, action: None };
    let body = "{\"type\":\"urn:writ:reason:proxy.not_tls\",\"title\":\"refused by Writ\",\"status\":403,\
                \"detail\":\"the service speaks TLS, and this is none\",\"code\":\"proxy.not_tls\",\
                \"hint\":\"connect with https, or declare `protocol = \\\"http\\\"` for the service\"}";
    let expected = format!(
        "HTTP/1.1 403 Forbidden\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\n\
         cache-control: no-store\r\nwrit-reason: proxy.not_tls\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    assert_eq!(String::from_utf8(raw(&refusal)).unwrap(), expected);
}

#[test]
fn the_voice_is_the_one_that_the_client_understands() {
    let voice = |uri: &str, headers: &[(&str, &str)]| {
        let mut builder = Request::builder().uri(uri);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        Voice::of(&builder.body(()).unwrap().into_parts().0)
    };
    assert_eq!(voice("/a", &[]), Voice::Http);
    assert_eq!(voice("/a", &[("accept", "*/*")]), Voice::Http);
    assert_eq!(voice("/a", &[("accept", "text/plain")]), Voice::Text);
    assert_eq!(voice("/r.git/info/refs?service=git-upload-pack", &[("accept", "*/*")]), Voice::Text);
    assert_eq!(voice("/r.git/git-receive-pack", &[]), Voice::Text);
    assert_eq!(voice("/s/M", &[("content-type", "application/grpc+proto")]), Voice::Grpc);
}

#[test]
fn an_agent_is_never_told_401_and_every_reason_can_be_told() {
    for reason in Reason::ALL.iter().filter(|reason| !reason.code().starts_with("caller.")) {
        for voice in [Voice::Http, Voice::Text, Voice::Grpc] {
            let answer = voice.refuse(&refusal(*reason));
            assert_ne!(answer.status(), 401);
            assert_eq!(answer.headers()["writ-reason"], reason.code());
        }
    }
}
