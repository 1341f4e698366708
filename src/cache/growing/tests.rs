use super::room::{HOLD_MAX, HOLD_MIN};
use super::*;
use crate::in_flight::{FORWARD_BYTES, InFlight, Work};
use futures_util::FutureExt;
use std::future::poll_fn;
use std::pin::Pin;
use std::time::Duration;

async fn next(reader: &mut Reader) -> Option<Result<Bytes, Cut>> {
    poll_fn(|context| Pin::new(&mut *reader).poll_chunk(context)).await
}

fn body(whole_bytes_max: u64) -> Arc<Growing> {
    Growing::new(whole_bytes_max, InFlight::new(u64::MAX).share(Work::Copy))
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
    overfull_by_one(body).await
}

/// Begins to push a quarter.
async fn overfull_by_one(body: &Arc<Growing>) -> tokio::task::JoinHandle<Pushed> {
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
    body.complete_with(Bytes::from_static(b"e"), |whole| stored.insert(whole).clone().into());
    assert_eq!(stored, Some(Bytes::from_static(b"abcde")));
    assert_eq!(next(&mut late).await, Some(Ok(Bytes::from_static(b"cde"))), "the rest of what was stored");
    assert_eq!(next(&mut late).await, None);
}

#[tokio::test]
async fn a_slow_reader_of_what_is_stored_reads_the_stored_bytes() {
    let body = body(100);
    let mut slow = body.reader().unwrap();
    body.push(Bytes::from_static(b"ab")).await;
    let stored = Bytes::from_static(b"as stored");
    body.complete_with(Bytes::from_static(b"cd"), |_| Some(stored.clone()));
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
    tokio::time::sleep(HOLD_MIN / 2).await;
    assert!(!writer.is_finished());
    read(&mut slower, WINDOW_BYTES / 4).await;
    assert_eq!(writer.await.unwrap(), Pushed::Done(Kept::Window));
    assert!(next(&mut slower).await.unwrap().is_ok());
}

/// Readers that share a line are slow, all alike; one of them had it for itself for a while, and is ahead.
#[tokio::test(start_paused = true)]
async fn many_equal_readers_of_a_full_line_are_not_cut_while_they_come_on() {
    const READERS: usize = 20;
    const LINE: u64 = 1024 * 1024;
    let body = body(0);
    let mut readers: Vec<_> = (0..READERS).map(|_| body.reader().unwrap()).collect();
    let mut stalled = body.reader().unwrap();
    let writer = {
        let body = Arc::clone(&body);
        tokio::spawn(async move {
            for _ in 0..8 {
                assert!(matches!(body.push(quarter()).await, Pushed::Done(_)));
            }
            body.complete(|_| panic!("too large"));
        })
    };
    tokio::task::yield_now().await;
    let a_second = |bytes: u64| tokio::time::sleep(Duration::from_millis(bytes * 1000 / LINE));
    let ahead = 3 * LINE;
    for _ in 0..ahead / PART_BYTES as u64 {
        read(&mut readers[0], PART_BYTES as u64).await;
        a_second(PART_BYTES as u64).await;
    }
    // Each in its turn takes what the line gives, until it has all.
    let mut left: Vec<_> = readers.iter_mut().map(|reader| (reader, 0_u64)).collect();
    left[0].1 = ahead;
    while !left.is_empty() {
        for (reader, seen) in &mut left {
            let turn = (*seen + 4 * PART_BYTES as u64).min(2 * WINDOW_BYTES);
            while *seen < turn {
                let Some(part) = next(reader).now_or_never() else { break };
                let bytes = part.unwrap().expect("a reader that comes on is not cut").len() as u64;
                *seen += bytes;
                a_second(bytes).await;
            }
        }
        left.retain(|(_, seen)| *seen < 2 * WINDOW_BYTES);
    }
    writer.await.unwrap();
    assert_eq!(next(&mut stalled).await, Some(Err(Cut::TooSlow)), "one that stands still is");
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
    assert_eq!(before.elapsed(), HOLD_MIN);
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

/// A chunk too large to be taken where nothing more may be held.
fn large() -> Bytes {
    Bytes::from(vec![b'x'; usize::try_from(FORWARD_BYTES + 1).unwrap()])
}

/// What may be in flight, and a share of all of it.
fn full() -> (Arc<InFlight>, Share) {
    let in_flight = InFlight::new(WINDOW_BYTES);
    let mut others = in_flight.share(Work::Forward);
    others.grow(WINDOW_BYTES).unwrap();
    (in_flight, others)
}

#[tokio::test(start_paused = true)]
async fn i10_at_the_bound_a_body_holds_one_chunk_at_a_time_and_is_not_stored() {
    let (in_flight, others) = full();
    let body = Growing::new(WINDOW_BYTES, in_flight.share(Work::Copy));
    let mut reader = body.reader().unwrap();
    for _ in 0..3 {
        let writer = {
            let body = Arc::clone(&body);
            tokio::spawn(async move { body.push(large()).await })
        };
        tokio::time::sleep(HOLD_MAX * 100).await;
        assert!(!writer.is_finished(), "no chunk is asked for before this one is read");
        assert_eq!(in_flight.bytes(), WINDOW_BYTES + FORWARD_BYTES + 1, "one chunk more than the bound");
        read(&mut reader, FORWARD_BYTES + 1).await;
        assert_eq!(writer.await.unwrap(), Pushed::Done(Kept::Window));
        assert_eq!(in_flight.bytes(), WINDOW_BYTES, "what was read is given back");
    }
    drop(others);
    assert_eq!(body.push(large()).await, Pushed::Done(Kept::Window), "it may run ahead again");
    body.complete(|_| panic!("its beginning is gone"));
    read(&mut reader, FORWARD_BYTES + 1).await;
    assert_eq!(next(&mut reader).await, None);
    drop((reader, body));
    assert_eq!(in_flight.bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn at_the_bound_a_body_keeps_no_more_than_it_has_and_waits_only_for_its_own_readers() {
    let in_flight = InFlight::new(WINDOW_BYTES);
    let body = Growing::new(WINDOW_BYTES, in_flight.share(Work::Copy));
    let (mut fast, mut slow) = (body.reader().unwrap(), body.reader().unwrap());
    assert_eq!(body.push(large()).await, Pushed::Done(Kept::Whole));
    let mut others = in_flight.share(Work::Forward);
    others.grow(WINDOW_BYTES - in_flight.bytes()).unwrap();
    read(&mut fast, FORWARD_BYTES + 1).await;
    let before = Instant::now();
    assert_eq!(body.push(large()).await, Pushed::Done(Kept::Window));
    assert_eq!(before.elapsed(), HOLD_MIN, "the slow one is waited for a little");
    assert_eq!(next(&mut slow).await, Some(Err(Cut::TooSlow)));
    assert_eq!(in_flight.bytes(), WINDOW_BYTES);
    drop((fast, slow));
    assert_eq!(body.push(large()).await, Pushed::Abandoned, "nobody reads it");
    drop((body, others));
    assert_eq!(in_flight.bytes(), 0);
}

#[tokio::test]
async fn small_bodies_are_stored_at_the_bound_and_hold_nothing_then() {
    let (in_flight, _others) = full();
    let body = Growing::new(WINDOW_BYTES, in_flight.share(Work::Copy));
    let mut reader = body.reader().unwrap();
    assert_eq!(body.push(Bytes::from_static(b"ab")).await, Pushed::Done(Kept::Whole));
    assert_eq!(in_flight.bytes(), WINDOW_BYTES + 2);
    let mut stored = None;
    body.complete(|whole| stored.insert(whole).clone().into());
    assert_eq!(stored, Some(Bytes::from_static(b"ab")));
    assert_eq!(in_flight.bytes(), WINDOW_BYTES, "from here on they are bytes of the store");
    read(&mut reader, 2).await;
    assert_eq!(next(&mut reader).await, None);
}

/// What no tier has is held by those who read it.
#[tokio::test]
async fn i10_what_is_not_stored_counts_until_its_last_reader_has_left() {
    let in_flight = InFlight::new(WINDOW_BYTES);
    let body = Growing::new(WINDOW_BYTES, in_flight.share(Work::Copy));
    let reader = body.reader().unwrap();
    body.push(large()).await;
    body.complete_with(Bytes::from_static(b"last"), |_| None);
    drop(body);
    assert_eq!(in_flight.bytes(), FORWARD_BYTES + 1 + 4);
    drop(reader);
    assert_eq!(in_flight.bytes(), 0);
}

#[tokio::test]
async fn a_broken_body_gives_everything_back_with_its_last_reader() {
    let in_flight = InFlight::new(WINDOW_BYTES);
    let body = Growing::new(WINDOW_BYTES, in_flight.share(Work::Copy));
    let reader = body.reader().unwrap();
    body.push(large()).await;
    body.abort();
    drop(body);
    assert_eq!(in_flight.bytes(), FORWARD_BYTES + 1, "a reader may still read what came");
    drop(reader);
    assert_eq!(in_flight.bytes(), 0);
}

#[tokio::test]
async fn a_writer_that_is_gone_breaks_the_body_for_its_readers() {
    let body = body(100);
    let mut reader = body.reader().unwrap();
    let unfinished = body.unfinished();
    body.push(Bytes::from_static(b"ab")).await;
    let died = tokio::spawn(async move {
        let _unfinished = unfinished;
        panic!("the writer's task dies");
    });
    assert!(died.await.is_err_and(|ended| ended.is_panic()));
    assert_eq!(next(&mut reader).await, Some(Ok(Bytes::from_static(b"ab"))));
    assert_eq!(next(&mut reader).await, Some(Err(Cut::Aborted)));
}

#[tokio::test]
async fn a_writer_that_has_ended_its_body_breaks_nothing_when_it_goes() {
    let body = body(100);
    let mut reader = body.reader().unwrap();
    let unfinished = body.unfinished();
    body.complete_with(Bytes::from_static(b"ab"), |_| None);
    drop(unfinished);
    read(&mut reader, 2).await;
    assert_eq!(next(&mut reader).await, None);
}

#[tokio::test]
async fn a_reader_of_a_part_sees_only_that() {
    let body = body(100);
    let mut early = body.reader().unwrap().only(&(2..5));
    body.push(Bytes::from_static(b"ab")).await;
    assert!(next(&mut early).now_or_never().is_none(), "nothing of it has come");
    body.push(Bytes::from_static(b"cd")).await;
    assert_eq!(next(&mut early).await, Some(Ok(Bytes::from_static(b"cd"))));
    let mut late = body.reader().unwrap().only(&(1..3));
    assert_eq!(next(&mut late).await, Some(Ok(Bytes::from_static(b"b"))));
    assert_eq!(next(&mut late).await, Some(Ok(Bytes::from_static(b"c"))));
    assert_eq!(next(&mut late).await, None, "it need not wait for the end of the whole");
    let mut newcomer = body.reader().unwrap();
    assert_eq!(next(&mut late).await, None);
    drop(late);
    assert_eq!(next(&mut newcomer).await, Some(Ok(Bytes::from_static(b"ab"))), "it has a place of its own");
    body.trail(HeaderMap::new());
    body.complete_with(Bytes::from_static(b"ef"), |_| None);
    assert_eq!(next(&mut early).await, Some(Ok(Bytes::from_static(b"e"))));
    assert_eq!(next(&mut early).await, None);
    assert!(early.trailers().is_none());
}

#[tokio::test]
async fn a_part_of_what_breaks_off_is_cut() {
    let body = body(100);
    let mut reader = body.reader().unwrap().only(&(1..5));
    body.push(Bytes::from_static(b"abc")).await;
    body.abort();
    assert_eq!(next(&mut reader).await, Some(Ok(Bytes::from_static(b"bc"))));
    assert_eq!(next(&mut reader).await, Some(Err(Cut::Aborted)));
}

/// One that waits for what has not come is not the fastest, and one that has its part is not the slowest.
#[tokio::test(start_paused = true)]
async fn readers_of_parts_hold_nobody_up_and_leave_nobody_behind() {
    const FAR: u64 = 4 * WINDOW_BYTES;
    let body = body(0);
    let (mut all, mut begin) = (body.reader().unwrap(), body.reader().unwrap().only(&(0..10)));
    let mut end = body.reader().unwrap().only(&(FAR..FAR + 10));
    let writer = overfull(&body).await;
    read(&mut begin, 10).await;
    tokio::time::sleep(HOLD_MAX * 100).await;
    assert!(!writer.is_finished(), "the one that reads all sets the pace");
    let before = Instant::now();
    read(&mut all, WINDOW_BYTES / 4).await;
    assert_eq!(writer.await.unwrap(), Pushed::Done(Kept::Window));
    read(&mut all, WINDOW_BYTES).await;
    while body.lock().received <= FAR {
        body.push(quarter()).await;
        read(&mut all, WINDOW_BYTES / 4).await;
    }
    assert_eq!(before.elapsed(), Duration::ZERO, "nobody else is waited for");
    read(&mut end, 10).await;
    assert_eq!(next(&mut end).await, None);
}

#[tokio::test]
async fn how_much_there_is_becomes_known_as_it_comes() {
    let body = body(4);
    let reader = body.reader().unwrap();
    assert!(reader.extent(2).now_or_never().is_none());
    body.push(Bytes::from_static(b"ab")).await;
    assert_eq!(reader.extent(2).await, Extent::Reached);
    assert!(reader.extent(3).now_or_never().is_none());
    body.push(Bytes::from_static(b"cde")).await;
    assert_eq!((reader.extent(5).await, reader.extent(6).await), (Extent::Reached, Extent::Passing));
    let whole = self::body(4);
    let reader = whole.reader().unwrap();
    whole.complete_with(Bytes::from_static(b"abc"), |_| None);
    assert_eq!(reader.extent(6).await, Extent::Complete(3));
    let broken = self::body(4);
    let reader = broken.reader().unwrap();
    broken.abort();
    assert_eq!(reader.extent(1).await, Extent::Broken);
}

/// The first that reads on wakes the writer, whoever else waits for a part that is still to come or has all
/// that it wants; then the last of those that come on does, whoever stands still.
#[tokio::test(start_paused = true)]
async fn i10_the_writer_is_woken_by_the_first_that_reads_and_the_last_that_comes_on() {
    const FAR: u64 = 100 * WINDOW_BYTES;
    for part in [0..10, FAR..FAR + 10] {
        let body = body(0);
        let (mut fast, mut slow) = (body.reader().unwrap(), body.reader().unwrap());
        let mut part = body.reader().unwrap().only(&part);
        for _ in 0..4 {
            body.push(quarter()).await;
        }
        while let Some(Some(_)) = next(&mut part).now_or_never() {}
        let writer = overfull_by_one(&body).await;
        let before = Instant::now();
        read(&mut fast, WINDOW_BYTES / 4).await;
        tokio::task::yield_now().await;
        assert!(matches!(body.lock().awaited, Awaited::Last { unread: 1, .. }), "the slow one is waited for");
        read(&mut slow, WINDOW_BYTES / 4).await;
        assert_eq!(writer.await.unwrap(), Pushed::Done(Kept::Window));
        assert_eq!(before.elapsed(), Duration::ZERO, "the writer is woken, it does not look by itself");
    }
}

#[tokio::test(start_paused = true)]
async fn i10_one_that_stands_still_keeps_nobody_from_waking_the_writer() {
    let body = body(0);
    let (mut fast, mut slower) = (body.reader().unwrap(), body.reader().unwrap());
    let stalled = body.reader().unwrap();
    for _ in 0..4 {
        body.push(quarter()).await;
    }
    let standing = |body: &Growing| {
        let inner = body.lock();
        inner.readers.iter().flatten().filter(|reader| reader.gait == room::Gait::StandsStill).count()
    };
    // Those that are behind are judged; the slower one comes on, but not as far as is needed.
    let writer = overfull_by_one(&body).await;
    read(&mut fast, WINDOW_BYTES / 2).await;
    let mut seen = 0;
    while standing(&body) == 0 {
        tokio::time::sleep(HOLD_MIN / 10).await;
        read(&mut slower, 2 * PART_BYTES as u64).await;
        seen += 2 * PART_BYTES as u64;
    }
    assert!(!writer.is_finished());
    let before = Instant::now();
    read(&mut slower, WINDOW_BYTES / 4 - seen).await;
    tokio::task::yield_now().await;
    assert!(writer.is_finished(), "the last of those who come on wakes the writer");
    assert_eq!(before.elapsed(), Duration::ZERO);
    drop(stalled);
}
