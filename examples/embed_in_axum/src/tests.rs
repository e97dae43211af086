//! The service without a socket: pages, refusals, a full queue, and clients that go away.
#![allow(clippy::unwrap_used)]

use super::*;
use axum::http;
use deepseek_ocr::Device;
use http_body_util::BodyExt;
use std::time::{Duration, Instant};
use tower::ServiceExt;

const PAGE: &[u8] = include_bytes!("../../../assets/page.png");
/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

fn engine(rows: usize, queue: usize) -> Engine {
    let limits = EngineOptions::default().with_rows(rows).with_queue(queue).with_when_full(WhenFull::Refuse);
    Engine::new(&DeepseekOcr::mini(&Device::default()).unwrap(), limits).unwrap()
}

fn post_image(image: impl Into<Body>) -> http::Request<Body> {
    http::Request::post("/read").body(image.into()).unwrap()
}

async fn text(response: Response) -> String {
    String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn a_page_is_read() {
    let app = app(engine(2, 2), Mode::Tiny);
    let response = app.clone().oneshot(post_image(PAGE)).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert!(text(response).await.starts_with("direction is toward a better Nation"));
    let load = http::Request::get("/load").body(Body::empty()).unwrap();
    assert_eq!(text(app.oneshot(load).await.unwrap()).await, "running 0, waiting 0\n");
}

#[tokio::test]
async fn what_is_no_image_or_too_large_is_refused() {
    let app = app(engine(2, 2), Mode::Tiny);
    let status = async |image: Body| app.clone().oneshot(post_image(image)).await.unwrap().status();
    assert_eq!(status("hello".into()).await, StatusCode::UNSUPPORTED_MEDIA_TYPE);
    assert_eq!(status(PAGE[..PAGE.len() / 2].into()).await, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(status(vec![0; BODY_LIMIT + 1].into()).await, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn what_finds_the_queue_full_may_come_again() {
    let app = app(engine(1, 1), Mode::Tiny);
    let clients: Vec<_> = (0..8).map(|_| tokio::spawn(app.clone().oneshot(post_image(PAGE)))).collect();
    let (mut read, mut refused) = (0, 0);
    for client in clients {
        let response = client.await.unwrap().unwrap();
        if response.status() == StatusCode::OK {
            assert!(text(response).await.starts_with("direction is"));
            read += 1;
        } else {
            assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(response.headers()[RETRY_AFTER], RETRY_SECONDS);
            refused += 1;
        }
    }
    assert!(read >= 1 && refused >= 1, "{read} read, {refused} refused");
    assert_eq!(app.oneshot(post_image(PAGE)).await.unwrap().status(), StatusCode::OK);
}

#[tokio::test]
async fn a_client_that_goes_away_frees_its_place() {
    let engine = engine(1, 4);
    let app = app(engine.clone(), Mode::Tiny);
    let whole = text(app.clone().oneshot(post_image(PAGE)).await.unwrap()).await;
    let before = engine.load().steps;
    assert!(before + 1 >= whole.chars().count() as u64, "the mini writes a character a step");
    // One that reads and one that waits; the second never gets an answer to drop.
    let mut reading = app.clone().oneshot(post_image(PAGE)).await.unwrap().into_body();
    let waiting = tokio::spawn(app.clone().oneshot(post_image(PAGE)));
    assert!(!reading.frame().await.unwrap().unwrap().into_data().unwrap().is_empty());
    until("the second waits", || engine.load().waiting == 1).await;
    waiting.abort();
    until("nobody waits", || engine.load().waiting == 0).await;
    drop(reading);
    until("nothing runs", || engine.load().running == 0).await;
    // The page was not read to its end, the one that waited not at all.
    assert!(engine.load().steps < before * 2, "{} steps", engine.load().steps);
}
