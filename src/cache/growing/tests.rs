use super::*;
use std::future::poll_fn;
use std::pin::Pin;

async fn next(reader: &mut Reader) -> Option<Result<Bytes, Cut>> {
    poll_fn(|context| Pin::new(&mut *reader).poll_chunk(context)).await
}

fn body(whole_bytes_max: u64) -> Arc<Growing> {
    Growing::new(whole_bytes_max, Gauge::noop())
}

/// A quarter of the window, which a reader takes in several parts.
fn quarter() -> Bytes {
    let bytes = usize::try_from(WINDOW_BYTES / 4).unwrap();
    Bytes::from(vec![b'x'; bytes])
}

/// Reads so many bytes.
async fn read(reader: &mut Reader, bytes: u64) {
    let mut seen = 0;
    while seen < bytes {
        seen += next(reader).await.unwrap().unwrap().len() as u64;
    }
}

/// Fills the window, and begins to push a quarter more.
async fn overfull(body: &Arc<Growing>) -> tokio::task::JoinHandle<Pushed> {
    for _ in 0..4 {
        assert_eq!(body.push(quarter()).await, Pushed::Done(Kept::Window));
    }
    let body = Arc::clone(body);
    let writer = tokio::spawn(async move { body.push(quarter()).await });
    tokio::task::yield_now().await;
    writer
}

#[tokio::test]
async fn readers_read_what_is_there_while_it_grows() {
    let body = body(100);
    let mut early = body.reader().unwrap();
    assert_eq!(body.push(Bytes::from_static(b"ab")).await, Pushed::Done(Kept::Whole));
    assert_eq!(next(&mut early).await, Some(Ok(Bytes::from_static(b"ab"))));
    let waiting = tokio::spawn(async move { next(&mut early).await });
    tokio::task::yield_now().await;
    assert_eq!(body.push(Bytes::from_static(b"cd")).await, Pushed::Done(Kept::Whole));
    assert_eq!(waiting.await.unwrap(), Some(Ok(Bytes::from_static(b"cd"))));
    let mut late = body.reader().unwrap();
    assert_eq!(next(&mut late).await, Some(Ok(Bytes::from_static(b"ab"))));
    let mut stored = None;
    body.complete_with(Bytes::from_static(b"e"), |whole| stored = Some(whole));
    assert_eq!(stored, Some(Bytes::from_static(b"abcde")));
    assert_eq!(next(&mut late).await, Some(Ok(Bytes::from_static(b"cde"))), "the rest of what was stored");
    assert_eq!(next(&mut late).await, None);
}

#[tokio::test]
async fn a_slow_reader_of_what_is_stored_reads_the_stored_bytes() {
    let body = body(100);
    let mut slow = body.reader().unwrap();
    body.push(Bytes::from_static(b"ab")).await;
    let mut stored = Bytes::new();
    body.complete_with(Bytes::from_static(b"cd"), |whole| stored = whole);
    let read = next(&mut slow).await.unwrap().unwrap();
    assert_eq!(read.as_ptr(), stored.as_ptr(), "there is one copy");
}

#[tokio::test]
async fn an_abort_never_looks_complete() {
    let body = body(100);
    let mut reader = body.reader().unwrap();
    body.push(Bytes::from_static(b"ab")).await;
    body.abort();
    assert_eq!(next(&mut reader).await, Some(Ok(Bytes::from_static(b"ab"))));
    assert_eq!(next(&mut reader).await, Some(Err(Cut::Aborted)));
    let mut late = body.reader().unwrap();
    assert_eq!(next(&mut late).await, Some(Ok(Bytes::from_static(b"ab"))));
    assert_eq!(next(&mut late).await, Some(Err(Cut::Aborted)));
    assert!(body.is_aborted(), "nobody else looks at it again");
}

#[tokio::test(start_paused = true)]
async fn i10_beyond_its_bound_the_fastest_reader_sets_the_pace() {
    let body = body(0);
    let (mut fast, mut stalled) = (body.reader().unwrap(), body.reader().unwrap());
    let writer = overfull(&body).await;
    tokio::time::sleep(HOLD_MAX * 100).await;
    assert!(!writer.is_finished(), "all readers are slow: the fill waits");
    let before = Instant::now();
    read(&mut fast, WINDOW_BYTES / 4).await;
    assert_eq!(writer.await.unwrap(), Pushed::Done(Kept::Window));
    assert_eq!(before.elapsed(), HOLD_MAX, "one that stalls is waited for a little");
    assert_eq!(next(&mut stalled).await, Some(Err(Cut::TooSlow)), "then it is cut, visibly");
    assert!(body.reader().is_none(), "the beginning is gone");
    read(&mut fast, WINDOW_BYTES).await;
    body.complete(|_| panic!("a body without its beginning is not stored"));
    assert_eq!(next(&mut fast).await, None);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_is_a_little_behind_is_waited_for_and_not_cut() {
    let body = body(0);
    let (mut fast, mut slower) = (body.reader().unwrap(), body.reader().unwrap());
    let writer = overfull(&body).await;
    read(&mut fast, WINDOW_BYTES / 2).await;
    tokio::time::sleep(HOLD_MAX / 2).await;
    assert!(!writer.is_finished());
    read(&mut slower, WINDOW_BYTES / 4).await;
    assert_eq!(writer.await.unwrap(), Pushed::Done(Kept::Window));
    assert!(next(&mut slower).await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn those_behind_are_waited_for_once_not_for_each_chunk() {
    let body = body(0);
    let (mut fast, mut stalled) = (body.reader().unwrap(), body.reader().unwrap());
    let before = Instant::now();
    for pushed in 1..=40_u64 {
        body.push(quarter()).await;
        read(&mut fast, WINDOW_BYTES / 4).await;
        assert!(body.lock().held_bytes() <= WINDOW_BYTES, "after {pushed} quarters");
    }
    assert_eq!(before.elapsed(), HOLD_MAX);
    assert_eq!(next(&mut stalled).await, Some(Err(Cut::TooSlow)));
}

#[tokio::test(start_paused = true)]
async fn a_body_that_nobody_reads_is_abandoned() {
    let body = body(0);
    let reader = body.reader().unwrap();
    let writer = overfull(&body).await;
    assert!(!writer.is_finished(), "the reader may still come");
    drop(reader);
    assert_eq!(writer.await.unwrap(), Pushed::Abandoned);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_begins_when_the_window_is_full_already_misses_nothing() {
    let body = body(0);
    let writer = overfull(&body).await;
    let mut reader = body.reader().unwrap();
    tokio::time::sleep(HOLD_MAX * 100).await;
    assert!(!writer.is_finished());
    read(&mut reader, WINDOW_BYTES).await;
    assert_eq!(writer.await.unwrap(), Pushed::Done(Kept::Window));
}

#[tokio::test]
async fn what_outgrows_the_tiers_goes_on_and_is_not_stored() {
    let body = body(3);
    let mut reader = body.reader().unwrap();
    assert_eq!(body.push(Bytes::from_static(b"abc")).await, Pushed::Done(Kept::Whole));
    assert_eq!(body.push(Bytes::from_static(b"d")).await, Pushed::Done(Kept::Window));
    body.complete(|_| panic!("too large"));
    read(&mut reader, 4).await;
    assert_eq!(next(&mut reader).await, None);
}
