//! The routes of the API, read from the document that the server serves.

use std::collections::BTreeSet;

use axum::http::Method;
use serde_json::{Map, Value, json};
use webhook_http_axum::ROUTES;

use crate::support::api::Api;
use crate::world::BASE;

/// One route.
#[derive(Debug, Clone)]
pub(crate) struct Operation {
    pub(crate) method: Method,
    /// Below the API's path, with `{id}` where an id stands.
    pub(crate) path: String,
    /// A good body, where it takes one.
    pub(crate) body: Option<Value>,
    /// Whether the body is JSON whose fields are read, and not any bytes.
    pub(crate) has_fields: bool,
    /// The names of its query's parameters.
    pub(crate) parameters: BTreeSet<String>,
    /// Whether `?tenant=*` may be said.
    pub(crate) takes_all_tenants: bool,
}

impl Operation {
    pub(crate) fn takes_an_id(&self) -> bool {
        self.path.contains("{id}")
    }

    /// A list with pages.
    pub(crate) fn is_a_list(&self) -> bool {
        self.parameters.contains("cursor")
    }
}

/// All of them, in the order of the table of routes; the document must have those and no others.
pub(crate) async fn operations(api: &Api) -> Vec<Operation> {
    let document = api.get("/openapi.json").await.expect("an answer").json();
    let found: Vec<_> = ROUTES.iter().map(|route| operation(&document, route.method, route.path)).collect();
    let described: usize = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .filter(|(path, _)| path.starts_with(BASE))
        .map(|(_, methods)| methods.as_object().unwrap().len())
        .sum();
    assert_eq!(described, ROUTES.len());
    found
}

fn operation(document: &Value, method: &str, path: &str) -> Operation {
    let described = &document["paths"][format!("{BASE}{path}")][method.to_ascii_lowercase()];
    assert!(described.is_object(), "{method} {path} is not in the document");
    let parameters: Vec<&Value> = described["parameters"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|parameter| follow(document, parameter))
        .filter(|parameter| parameter["in"] == "query")
        .collect();
    let of_all = |parameter: &&Value| {
        parameter["name"] == "tenant"
            && parameter["schema"]["pattern"].as_str().is_some_and(|pattern| pattern.contains('*'))
    };
    let content = &described["requestBody"]["content"];
    let schema = &content["application/json"]["schema"];
    Operation {
        method: method.parse().unwrap(),
        path: path.to_owned(),
        body: content.is_object().then(|| sample(document, schema)),
        has_fields: content.is_object() && content.get("*/*").is_none(),
        parameters: parameters.iter().map(|parameter| parameter["name"].as_str().unwrap().into()).collect(),
        takes_all_tenants: parameters.iter().any(of_all),
    }
}

/// Where a `$ref` leads.
fn follow<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str().and_then(|to| to.strip_prefix('#')) {
        Some(pointer) => document.pointer(pointer).expect("a reference leads somewhere"),
        None => value,
    }
}

/// A value that fits a schema: its example, or the least that it asks for.
fn sample(document: &Value, schema: &Value) -> Value {
    let schema = follow(document, schema);
    if let Some(example) = schema["examples"].get(0) {
        return example.clone();
    }
    let kind = schema["type"].get(0).unwrap_or(&schema["type"]);
    match kind.as_str() {
        Some("string") => schema["enum"].get(0).cloned().unwrap_or(json!("text")),
        Some("integer" | "number") => schema.get("minimum").cloned().unwrap_or(json!(1)),
        Some("boolean") => json!(false),
        Some("array") => json!([sample(document, &schema["items"])]),
        _ => {
            let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
            let sampled = |name: &str| (name.to_owned(), sample(document, &schema["properties"][name]));
            Value::Object(required.map(sampled).collect::<Map<_, _>>())
        }
    }
}
