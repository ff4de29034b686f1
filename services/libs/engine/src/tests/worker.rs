//! The request and answer engine: bounded, in order, indifferent to callers who left.

use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use crate::error::{ModelError, RunError, SubmitError};
use crate::observer::Unobserved;
use crate::worker::{CallError, Worker, WorkerOptions};

type Asked = Arc<Mutex<Vec<i32>>>;

/// A model that squares numbers, each after a nod, and notes what it was asked.
struct Squares {
    nods: mpsc::Receiver<()>,
    asked: Asked,
}

impl Squares {
    fn square(&mut self, n: i32) -> Result<i32, ModelError> {
        self.asked.lock().unwrap().push(n);
        let _ = self.nods.recv();
        match n {
            13 => panic!("bad luck"),
            17 => Err("prime".into()),
            n => Ok(n * n),
        }
    }
}

fn squares(queue_limit: usize) -> (Arc<Worker<Squares>>, mpsc::Sender<()>, Asked) {
    let (nod, nods) = mpsc::channel();
    let asked = Asked::default();
    let model = Squares { nods, asked: Arc::clone(&asked) };
    let options = WorkerOptions { name: "squares".to_owned(), queue_limit, observer: Arc::new(Unobserved) };
    let (worker, _loaded) = Worker::start(options, || Ok((model, ()))).unwrap();
    (Arc::new(worker), nod, asked)
}

async fn ask(worker: &Worker<Squares>, n: i32, deadline: Option<Instant>) -> Result<i32, CallError> {
    worker.call(deadline, move |model| model.square(n)).await
}

async fn until(condition: impl Fn() -> bool) {
    while !condition() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn calls_are_answered_and_failures_stay_with_their_caller() {
    let (worker, nod, _) = squares(4);
    drop(nod);
    assert_eq!(ask(&worker, 3, None).await, Ok(9));
    assert_eq!(ask(&worker, 17, None).await, Err(CallError::Failed(RunError::Model("prime".into()))));
    assert_eq!(ask(&worker, 13, None).await, Err(CallError::Failed(RunError::Panicked("bad luck".into()))));
    assert_eq!(ask(&worker, 4, None).await, Ok(16));
    worker.drain().await;
    assert_eq!(ask(&worker, 5, None).await, Err(CallError::Refused(SubmitError::Closed)));
}

#[tokio::test]
async fn the_line_is_bounded_and_callers_who_left_are_skipped() {
    let (worker, nod, asked) = squares(1);
    let call = |n| {
        let worker = Arc::clone(&worker);
        tokio::spawn(async move { ask(&worker, n, None).await })
    };
    let first = call(1);
    until(|| *asked.lock().unwrap() == [1]).await;
    let left = call(2);
    tokio::task::yield_now().await;
    until_full(&worker).await;
    left.abort();
    let _ = left.await;
    let last = call(3);
    drop(nod);
    assert_eq!((first.await.unwrap(), last.await.unwrap()), (Ok(1), Ok(9)));
    assert_eq!(*asked.lock().unwrap(), [1, 3]);
}

/// Waits until a further call is refused. The refused call is never taken, so this changes nothing.
async fn until_full(worker: &Worker<Squares>) {
    let already_late = Some(Instant::now());
    loop {
        match ask(worker, 99, already_late).await {
            Err(CallError::Refused(SubmitError::Full { limit: 1, .. })) => return,
            _ => tokio::task::yield_now().await,
        }
    }
}

#[tokio::test]
async fn a_call_whose_deadline_passes_is_answered_then_and_never_computed() {
    let (worker, nod, asked) = squares(4);
    let busy = {
        let worker = Arc::clone(&worker);
        tokio::spawn(async move { ask(&worker, 1, None).await })
    };
    until(|| !asked.lock().unwrap().is_empty()).await;
    let deadline = Some(Instant::now() + Duration::from_millis(5));
    assert_eq!(ask(&worker, 2, deadline).await, Err(CallError::Failed(RunError::DeadlineExceeded)));
    drop(nod);
    assert_eq!(busy.await.unwrap(), Ok(1));
    worker.drain().await;
    assert_eq!(*asked.lock().unwrap(), [1]);
}
