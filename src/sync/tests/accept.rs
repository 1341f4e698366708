//! Accepted changes against a scripted source: what is held, what is damaged, how many at once.

use super::*;
use crate::sync::settings::SourceSettings;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::Semaphore;

type Written =
    Box<dyn Fn(WriteSource) -> futures_util::future::BoxFuture<'static, SourceWritten> + Send + Sync>;

fn done() -> SourceWritten {
    SourceWritten::Answered {
        status: StatusCode::OK,
        fields: HeaderMap::new(),
        location: None,
        answer: String::new(),
    }
}

async fn accepting(data: &Path, concurrency: usize, write_source: Written) -> Arc<Engine> {
    let source = SourceSettings {
        name: "source".into(),
        concurrency,
        repeats: Repeats::ByMethod,
        addresses: Addresses::One,
        retry: destination("d", "http://127.0.0.1:1").retry,
    };
    let settings = Settings { sources: vec![source], ..settings(data, vec![]) };
    Engine::start(settings, Clock::system(), Ports { write_source, ..ports(vec![]).0 }).await.unwrap()
}

async fn accept(engine: &Engine, target: &str) -> ChangeId {
    engine.accept(draft(Method::PUT, target, &[]), OnRefusal::Skip).await.unwrap()
}

async fn waiting(engine: &Engine) -> u64 {
    engine.accepted().await.unwrap().iter().map(|status| status.waiting).sum()
}

#[tokio::test]
async fn what_the_source_was_not_asked_is_no_attempt() {
    let data = tempfile::tempdir().unwrap();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let write_source: Written = Box::new(move |_| {
        let first = count.fetch_add(1, Ordering::SeqCst) == 0;
        Box::pin(async move { if first { SourceWritten::Held } else { std::future::pending().await } })
    });
    let engine = accepting(data.path(), 8, write_source).await;
    let id = accept(&engine, "/a").await;
    until("it is asked again", || async { asked.load(Ordering::SeqCst) == 2 }).await;
    let view = engine.change(id).await.unwrap().unwrap();
    let at_source = view.at_source.unwrap();
    assert_eq!((view.state.as_str(), at_source.attempts), ("accepted", 0), "{at_source:?}");
    engine.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn i10_accepted_writes_take_half_of_the_places_toward_their_source() {
    let data = tempfile::tempdir().unwrap();
    let (at_once, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let gate = Arc::new(Semaphore::new(0));
    let (count, peak, closed) = (Arc::clone(&at_once), Arc::clone(&most), Arc::clone(&gate));
    let write_source: Written = Box::new(move |_| {
        let (count, peak, closed) = (Arc::clone(&count), Arc::clone(&peak), Arc::clone(&closed));
        Box::pin(async move {
            peak.fetch_max(count.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            drop(closed.acquire().await);
            count.fetch_sub(1, Ordering::SeqCst);
            done()
        })
    });
    let engine = accepting(data.path(), 8, write_source).await;
    for number in 0..300 {
        accept(&engine, &format!("/{number}")).await;
    }
    until("all places are taken", || async { at_once.load(Ordering::SeqCst) == 4 }).await;
    assert_eq!(waiting(&engine).await, 300);
    gate.add_permits(Semaphore::MAX_PERMITS / 2);
    until("all is done", || async { waiting(&engine).await == 0 }).await;
    assert_eq!(most.load(Ordering::SeqCst), 4, "half of 8");
    engine.stop(DEADLINE).await;
}

#[tokio::test]
async fn a_damaged_change_is_never_sent_and_holds_nobody_up() {
    let data = tempfile::tempdir().unwrap();
    let hole: Written = Box::new(|_| Box::pin(async { SourceWritten::Held }));
    let engine = accepting(data.path(), 8, hole).await;
    let damaged = accept(&engine, "/a").await;
    let sound = accept(&engine, "/a").await;
    engine.stop(DEADLINE).await;
    journal::sqlite::damage_first(data.path(), "body");
    let sent: Arc<Mutex<Vec<String>>> = Arc::default();
    let seen = Arc::clone(&sent);
    let write_source: Written = Box::new(move |write| {
        seen.lock().unwrap().push(write.idempotency_key);
        Box::pin(async { done() })
    });
    let engine = accepting(data.path(), 8, write_source).await;
    until("the other one is done", || async { waiting(&engine).await == 0 }).await;
    assert_eq!(*sent.lock().unwrap(), [format!("\"{sound}\"")]);
    let letters =
        engine.dead_letters(DeadLetterFilter::default(), LetterPage::FIRST).await.unwrap().dead_letters;
    let told: Vec<_> = letters.iter().map(|letter| (letter.change.clone(), letter.code.as_str())).collect();
    assert_eq!(told, [(damaged.to_string(), "damaged")]);
    engine.stop(DEADLINE).await;
}
