use super::*;
use crate::secret::Endpoint;
use crate::source::{empty, full};
use crate::tls::ClientTls;
use http::uri::PathAndQuery;
use http_body_util::BodyExt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Wake, Waker};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const LONG: Duration = Duration::from_mins(1);

/// Whether somebody was woken.
#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

async fn listener() -> (TcpListener, Address) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/base", listener.local_addr().unwrap());
    (listener, Address::new("s", &Endpoint::new(url::Url::parse(&url).unwrap())))
}

fn client(idle_max: usize, idle_timeout: Duration) -> Client {
    Client::new(Connector::new(LONG, &ClientTls::default()), idle_max, idle_timeout)
}

fn request(address: &Address, body: RequestBody) -> Request<RequestBody> {
    let mut request = Request::new(body);
    *request.uri_mut() = address.target(&PathAndQuery::from_static("/a")).unwrap();
    request
}

async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// Takes one request and answers it; the head that came.
async fn answer(stream: &mut TcpStream) -> String {
    let head = read_head(stream).await;
    stream.write_all(ANSWER).await.unwrap();
    head
}

async fn read(client: &Client, address: &Address, line: Line) {
    let (response, mut lease) =
        client.send(address, request(address, empty()), line, Until::after(LONG)).await.unwrap();
    let mut body = response.into_body();
    let frame = poll_fn(|context| lease.drive(context, |context| Pin::new(&mut body).poll_frame(context)));
    assert_eq!(frame.await.unwrap().unwrap().into_data().unwrap(), "ok");
    assert!(body.is_end_stream() && lease.uses().heard());
    lease.end();
}

fn idle(client: &Client, address: &Address) -> usize {
    client.0.idle.count(address.shown())
}

#[tokio::test]
async fn a_connection_whose_answer_has_ended_carries_the_next_request() {
    let (listener, address) = listener().await;
    let client = client(1, LONG);
    let source = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let first = answer(&mut stream).await;
        assert!(first.starts_with("GET /base/a HTTP/1.1\r\n"), "{first}");
        answer(&mut stream).await;
    };
    tokio::join!(source, async {
        read(&client, &address, Line::Shared).await;
        assert_eq!(idle(&client, &address), 1);
        read(&client, &address, Line::Shared).await;
    });
}

#[tokio::test]
async fn a_connection_of_its_own_is_never_kept_and_no_kept_one_is_taken_for_it() {
    let (listener, address) = listener().await;
    let client = client(1, LONG);
    let source = async {
        let (mut kept, _) = listener.accept().await.unwrap();
        answer(&mut kept).await;
        let (mut own, _) = listener.accept().await.unwrap();
        answer(&mut own).await;
        assert_eq!(own.read(&mut [0]).await.unwrap(), 0, "it is closed");
        kept
    };
    tokio::join!(source, async {
        read(&client, &address, Line::Shared).await;
        read(&client, &address, Line::Own).await;
        assert_eq!(idle(&client, &address), 1);
    });
}

#[tokio::test]
async fn what_the_source_closes_or_says_unasked_is_let_go_of_at_once() {
    for unasked in [&b""[..], b"HTTP/1.1 408 Request Timeout\r\n\r\n"] {
        let (listener, address) = listener().await;
        let client = client(1, LONG);
        let source = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            answer(&mut stream).await;
            stream.write_all(unasked).await.unwrap();
            stream.shutdown().await.unwrap();
            assert_eq!(stream.read(&mut [0]).await.unwrap_or_default(), 0, "nobody has asked for it");
        };
        tokio::join!(source, read(&client, &address, Line::Shared));
        while idle(&client, &address) > 0 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test]
async fn i10_idle_connections_are_few_and_end_with_their_time() {
    let (listener, address) = listener().await;
    let client = client(2, Duration::from_millis(300));
    let source = async {
        let mut streams = Vec::new();
        for _ in 0..3 {
            streams.push(listener.accept().await.unwrap().0);
        }
        for stream in &mut streams {
            answer(stream).await;
        }
        for stream in &mut streams {
            assert_eq!(stream.read(&mut [0]).await.unwrap(), 0, "it is closed");
        }
    };
    let read = || read(&client, &address, Line::Shared);
    let clients = async {
        tokio::join!(read(), read(), read());
        assert_eq!(idle(&client, &address), 2);
    };
    tokio::join!(source, clients);
    assert_eq!(idle(&client, &address), 0);
}

/// What lies idle wakes the task that looks after it, also where it is the only one.
#[tokio::test]
async fn a_connection_that_is_closed_while_it_lies_idle_is_let_go_of() {
    let (listener, address) = listener().await;
    let client = client(1, LONG);
    let source = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        answer(&mut stream).await;
        stream
    };
    let (stream, ()) = tokio::join!(source, read(&client, &address, Line::Shared));
    assert_eq!(idle(&client, &address), 1);
    drop(stream);
    while idle(&client, &address) > 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Content that has gone before its answer came leaves nothing behind.
#[tokio::test]
async fn a_connection_that_has_carried_content_carries_the_next_request() {
    let (listener, address) = listener().await;
    let client = client(1, LONG);
    let source = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_head(&mut stream).await;
        stream.read_exact(&mut [0; 7]).await.unwrap();
        stream.write_all(ANSWER).await.unwrap();
        answer(&mut stream).await;
    };
    tokio::join!(source, async {
        let request = request(&address, full("content".into()));
        let (response, mut lease) =
            client.send(&address, request, Line::Shared, Until::after(LONG)).await.unwrap();
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "ok");
        lease.end();
        while idle(&client, &address) == 0 {
            tokio::task::yield_now().await;
        }
        read(&client, &address, Line::Shared).await;
    });
}

/// What wakes it while it is driven is looked at before its driver waits; without that its driver is not woken.
#[tokio::test]
async fn a_driver_waits_exactly_where_nothing_has_woken_it() {
    let (listener, address) = listener().await;
    let client = client(1, LONG);
    let stream = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        read_head(&mut stream).await;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n").await.unwrap();
        stream
    };
    let asking = client.send(&address, request(&address, empty()), Line::Shared, Until::after(LONG));
    let (_stream, sent) = tokio::join!(stream, asking);
    let (_response, mut lease) = sent.unwrap();
    let woken = Arc::<Woken>::default();
    let waker = Waker::from(Arc::clone(&woken));
    let mut context = Context::from_waker(&waker);
    assert!(lease.drive(&mut context, |_| Poll::<()>::Pending).is_pending());
    assert!(!woken.0.load(Ordering::Relaxed), "nothing has come");
    let mut polled = 0;
    let driven = lease.drive(&mut context, |context| {
        polled += 1;
        if polled > 2 {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    });
    assert!(driven.is_ready(), "polled {polled} times");
}

#[tokio::test]
async fn an_idle_connection_stays_for_its_time_and_no_longer() {
    let (listener, address) = listener().await;
    let client = client(1, LONG);
    let source = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        answer(&mut stream).await;
        stream
    };
    let (stream, ()) = tokio::join!(source, read(&client, &address, Line::Shared));
    let next = client.0.tend();
    assert!(next <= LONG && next > LONG / 2, "{next:?}");
    assert_eq!(idle(&client, &address), 1);
    client.0.idle.retain(|kept| {
        kept.since = kept.since.checked_sub(LONG).unwrap();
        true
    });
    assert_eq!(client.0.tend(), LONG);
    assert_eq!(idle(&client, &address), 0);
    drop(stream);
}

/// Also what the runtime does not know of yet.
#[tokio::test]
async fn what_has_come_since_the_last_answer_is_seen_before_the_next_request_is_sent() {
    let (listener, address) = listener().await;
    let client = client(1, LONG);
    let source = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        answer(&mut stream).await;
        stream
    };
    let (stream, ()) = tokio::join!(source, read(&client, &address, Line::Shared));
    assert_eq!(idle(&client, &address), 1);
    let mut stream = stream.into_std().unwrap();
    std::io::Write::write_all(&mut stream, b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nno").unwrap();
    let source = async { answer(&mut listener.accept().await.unwrap().0).await };
    tokio::join!(source, read(&client, &address, Line::Shared));
}

/// What is sent goes on also while nobody takes of the answer. A source that does not know whose content it is may take
/// it for a request: nothing else goes on that connection.
#[tokio::test]
async fn content_is_sent_to_its_end_behind_an_early_answer_and_nothing_behind_it() {
    let (listener, address) = listener().await;
    let client = client(1, LONG);
    let content = vec![b'a'; 32 << 20];
    let length = content.len();
    let source = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        answer(&mut stream).await;
        stream.read_exact(&mut vec![0; length]).await.unwrap();
        assert_eq!(stream.read(&mut [0]).await.unwrap(), 0, "it is closed");
        answer(&mut listener.accept().await.unwrap().0).await;
    };
    let sending = async {
        let request = request(&address, full(content.into()));
        let (response, mut lease) =
            client.send(&address, request, Line::Shared, Until::after(LONG)).await.unwrap();
        let body = response.into_body().collect();
        assert_eq!(body.await.unwrap().to_bytes(), "ok", "its own task drives it");
        lease.end();
        read(&client, &address, Line::Shared).await;
    };
    tokio::join!(source, sending);
}
