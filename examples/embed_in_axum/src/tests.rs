//! The service without a socket, and one client that goes away.
#![allow(clippy::unwrap_used)]

use super::*;
use axum::http;
use deepseek_ocr::Device;
use http_body_util::BodyExt;
use std::time::{Duration, Instant};
use tower::ServiceExt;

const PAGE: &[u8] = include_bytes!("../../../assets/page.png");

fn post_image(image: &'static [u8]) -> http::Request<Body> {
    http::Request::post("/read").body(Body::from(image)).unwrap()
}

#[tokio::test]
async fn a_page_is_read() {
    let app = app(DeepseekOcr::mini(&Device::default()).unwrap(), Mode::Tiny, 2);
    let response = app.oneshot(post_image(PAGE)).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let text = response.into_body().collect().await.unwrap().to_bytes();
    assert!(text.starts_with(b"on its claim of nearly $13,000,000. The\n"));
}

#[tokio::test]
async fn what_is_no_image_is_refused() {
    let app = app(DeepseekOcr::mini(&Device::default()).unwrap(), Mode::Tiny, 2);
    let response = app.clone().oneshot(post_image(b"hello")).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
    let response = app.oneshot(post_image(&PAGE[..PAGE.len() / 2])).await.unwrap();
    assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn a_client_that_goes_away_frees_its_place() {
    let service = Service {
        model: DeepseekOcr::mini(&Device::default()).unwrap(),
        mode: Mode::Tiny,
        places: Arc::new(Semaphore::new(1)),
    };
    let response = read(State(service.clone()), Bytes::from_static(PAGE)).await;
    let mut body = response.into_body();
    let first = body.frame().await.unwrap().unwrap();
    assert!(!first.into_data().unwrap().is_empty());
    assert_eq!(service.places.available_permits(), 0);
    drop(body);
    // The page has hundreds of tokens left; at most the channel's pieces and one more are computed.
    let waiting = Instant::now();
    let place = tokio::time::timeout(Duration::from_secs(30), service.places.acquire()).await;
    assert!(place.is_ok(), "the work went on for {:?}", waiting.elapsed());
}
