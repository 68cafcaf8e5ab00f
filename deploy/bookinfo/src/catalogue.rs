//! What the services say, each role in one function.

use anyhow::Result;
use hyper::{HeaderMap, Uri};
use serde_json::{Value, json};

use crate::{Service, Version};

/// What is known of a book.
pub fn details(service: &Service, id: u32) -> Value {
    json!({
        "id": id,
        "author": "William Shakespeare",
        "year": 1595,
        "type": "paperback",
        "pages": 200,
        "publisher": "PublisherA",
        "language": "English",
        "ISBN-10": "1234567890",
        "ISBN-13": "123-1234567890",
        "version": "v1",
        "instance": service.instance,
    })
}

/// How many stars each reviewer gives.
pub fn ratings(service: &Service, id: u32) -> Value {
    json!({
        "id": id,
        "ratings": {"Reviewer1": 5, "Reviewer2": 4},
        "version": "v1",
        "instance": service.instance,
    })
}

/// What people say; versions with stars ask ratings for them.
pub async fn reviews(
    service: &Service,
    version: Version,
    ratings: &Uri,
    id: u32,
    headers: &HeaderMap,
) -> Value {
    let mut reviews = json!([
        {
            "reviewer": "Reviewer1",
            "text": "An extremely entertaining play by Shakespeare. \
                     The slapstick humour is refreshing!",
        },
        {
            "reviewer": "Reviewer2",
            "text": "Absolutely fun and entertaining. The play lacks thematic depth when \
                     compared to other plays by Shakespeare.",
        },
    ]);
    if let Some(colour) = version.colour() {
        // Reviews without stars are better than none.
        let answer = service.upstream.get(ratings, &format!("/ratings/{id}"), headers).await;
        for review in reviews.as_array_mut().into_iter().flatten() {
            review["rating"] = match &answer {
                Ok(answer) => {
                    let stars = review["reviewer"].as_str().map(|name| &answer["ratings"][name]);
                    json!({"stars": stars, "color": colour, "instance": answer["instance"]})
                }
                Err(error) => json!({"error": format!("{error:#}"), "color": colour}),
            };
        }
    }
    json!({
        "id": id.to_string(),
        "version": version.name(),
        "instance": service.instance,
        "reviews": reviews,
    })
}

/// All that is known of a product: details and reviews, asked at once.
pub async fn product(
    service: &Service,
    details: &Uri,
    reviews: &Uri,
    id: u32,
    headers: &HeaderMap,
) -> Result<Value> {
    let (of_details, of_reviews) = (format!("/details/{id}"), format!("/reviews/{id}"));
    let (details, reviews) = tokio::try_join!(
        service.upstream.get(details, &of_details, headers),
        service.upstream.get(reviews, &of_reviews, headers),
    )?;
    Ok(json!({
        "id": id,
        "title": "The Comedy of Errors",
        "version": "v1",
        "instance": service.instance,
        "details": details,
        "reviews": reviews,
    }))
}
