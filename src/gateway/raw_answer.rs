//! A refusal as bytes: where hyper has seen nothing of the connection, or nothing of the message.

use super::body::Body;
use super::cache_status::CacheStatus;
use super::problem::GatewayError;
use super::strict::Refusal;
use bytes::Bytes;

/// The whole answer to a refused request, for a connection that hyper has seen nothing of.
pub(crate) fn raw_answer(refusal: Refusal) -> Vec<u8> {
    let mut response = GatewayError::Refused(refusal).into_response();
    CacheStatus::Own.append_to(response.headers_mut());
    let (head, body) = response.into_parts();
    let mut answer = format!("HTTP/1.1 {}\r\n", head.status).into_bytes();
    for (name, value) in &head.headers {
        answer.extend_from_slice(name.as_str().as_bytes());
        answer.extend_from_slice(b": ");
        answer.extend_from_slice(value.as_bytes());
        answer.extend_from_slice(b"\r\n");
    }
    let body = if let Body::Full(bytes) = body { bytes } else { Bytes::new() };
    answer.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
    answer.extend_from_slice(&body);
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_one_whole_answer_that_closes() {
        let answer = String::from_utf8(raw_answer(Refusal::HeadTooSlow)).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 408 Request Timeout\r\n"), "{head}");
        assert!(head.contains(&format!("\r\ncontent-length: {}", body.len())), "{head}");
        assert!(head.contains("\r\nconnection: close"), "{head}");
        let problem: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(problem["status"], 408);
    }
}
