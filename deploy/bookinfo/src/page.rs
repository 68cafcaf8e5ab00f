//! The product page for people.

use serde_json::Value;

/// Renders what `catalogue::product` gave.
pub fn render(product: &Value) -> String {
    let title = text(&product["title"]);
    let details = &product["details"];
    let reviews = &product["reviews"];
    let quotes: String = reviews["reviews"].as_array().into_iter().flatten().map(quote).collect();
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>{title}</title>\
         <style>body{{font:16px sans-serif;max-width:40em;margin:2em auto}}\
         .black{{color:#000}}.red{{color:#c00}}small{{color:#666}}</style></head>\n<body>\n\
         <h1>{title}</h1>\n\
         <p>{author}, {year}; {publisher}, {pages} pages. \
         <small>details: {details_instance}</small></p>\n\
         <h2>Reviews</h2>\n{quotes}\
         <p><small>Reviews served by: {reviews_instance}, version {version}. \
         Page served by: {instance}.</small></p>\n</body>\n</html>\n",
        author = text(&details["author"]),
        year = text(&details["year"]),
        publisher = text(&details["publisher"]),
        pages = text(&details["pages"]),
        details_instance = text(&details["instance"]),
        reviews_instance = text(&reviews["instance"]),
        version = text(&reviews["version"]),
        instance = text(&product["instance"]),
    )
}

fn quote(review: &Value) -> String {
    let rating = &review["rating"];
    let stars = match rating["stars"].as_u64() {
        Some(count) => format!(
            " <span class=\"{}\">{}</span>",
            text(&rating["color"]),
            "★".repeat(count.min(5) as usize)
        ),
        None if rating["error"].is_string() => " <small>no ratings now</small>".to_owned(),
        None => String::new(),
    };
    format!(
        "<blockquote>{} <br><small>{}</small>{stars}</blockquote>\n",
        text(&review["text"]),
        text(&review["reviewer"])
    )
}

/// A value as text that means nothing to HTML.
fn text(value: &Value) -> String {
    let plain = value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned);
    plain.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn shows_stars_and_who_answered() {
        let page = render(&json!({
            "title": "A <b>", "instance": "page-1", "details": {},
            "reviews": {"instance": "reviews-v3", "version": "v3", "reviews": [
                {"text": "fine", "reviewer": "R", "rating": {"stars": 4, "color": "red"}},
            ]},
        }));
        assert!(page.contains("<span class=\"red\">★★★★</span>"), "{page}");
        assert!(page.contains("Reviews served by: reviews-v3, version v3"), "{page}");
        assert!(page.contains("<h1>A &lt;b&gt;</h1>"), "{page}");
    }

    #[test]
    fn shows_reviews_without_stars() {
        let page = render(&json!({"reviews": {"reviews": [{"text": "fine", "reviewer": "R"}]}}));
        assert!(page.contains("fine") && !page.contains('★'), "{page}");
    }
}
