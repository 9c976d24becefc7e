//! What the OpenAPI document says, held against every answer of every test: its status is documented, its body
//! fits the schema of that status and has no field that the schema does not know; and so does every body that was
//! accepted. The harness calls this on each request.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use http::Method;
use jsonschema::Validator;
use serde_json::{Value, json};
use webhook_http_axum::openapi;

use super::harness::{Answer, Api};

/// The document, its objects closed: a field that is not in it is a mistake on this side.
static DOCUMENT: LazyLock<Value> = LazyLock::new(|| {
    let mut document = openapi("");
    close(&mut document["components"]["schemas"]);
    document
});

fn close(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            if map.get("properties").is_some_and(Value::is_object) && map.contains_key("type") {
                map.entry("additionalProperties").or_insert(json!(false));
            }
            map.values_mut().for_each(close);
        }
        Value::Array(items) => items.iter_mut().for_each(close),
        _ => {}
    }
}

/// The operation that a request reaches, if it is one.
fn operation(method: &Method, path: &str) -> Option<&'static Value> {
    let path = path.split('?').next()?;
    let path = path.strip_suffix('/').unwrap_or(path);
    let fits = |template: &str| {
        let (theirs, ours) = (template.split('/'), path.split('/'));
        theirs.clone().count() == ours.clone().count()
            && theirs.zip(ours).all(|(theirs, ours)| theirs == "{id}" || theirs == ours)
    };
    let paths = DOCUMENT["paths"].as_object().unwrap();
    let found = paths.get(path).or_else(|| {
        paths.iter().find(|(template, _)| template.contains("{id}") && fits(template)).map(|(_, found)| found)
    });
    found?.get(method.as_str().to_ascii_lowercase())
}

/// Where a `$ref` leads.
fn follow(value: &'static Value) -> &'static Value {
    match value["$ref"].as_str().and_then(|to| to.strip_prefix('#')) {
        Some(pointer) => DOCUMENT.pointer(pointer).unwrap(),
        None => value,
    }
}

/// What is wrong with a value by a schema.
fn errors(schema: &Value, value: &Value) -> Vec<String> {
    static VALIDATORS: LazyLock<Mutex<HashMap<String, Arc<Validator>>>> = LazyLock::new(Mutex::default);
    let mut validators = VALIDATORS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let validator = validators.entry(schema.to_string()).or_insert_with(|| {
        let whole = json!({"allOf": [schema], "components": DOCUMENT["components"]});
        let options = jsonschema::options().should_validate_formats(true).build(&whole);
        Arc::new(options.expect("a schema"))
    });
    let validator = Arc::clone(validator);
    drop(validators);
    validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

/// Checks an answer.
pub(crate) fn check_answer(method: &Method, path: &str, answer: &Answer) {
    let Some(operation) = operation(method, path) else { return };
    let status = answer.status.as_u16().to_string();
    let documented = &operation["responses"][&status];
    assert!(documented.is_object(), "{method} {path}: {status} is not documented: {}", answer.text());
    let documented = follow(documented);
    let content = documented["content"].as_object();
    let Some(content) = content else {
        assert!(answer.body.is_empty(), "{method} {path}: no body is documented for {status}");
        return;
    };
    if content.contains_key("*/*") {
        return;
    }
    let kind = answer.header("content-type");
    let schema =
        &content.get(kind).unwrap_or_else(|| panic!("{method} {path}: {kind} is not documented"))["schema"];
    let wrong = errors(schema, &answer.value());
    assert!(wrong.is_empty(), "{method} {path}: {wrong:#?} in {}", answer.text());
    for name in documented["headers"].as_object().into_iter().flat_map(|headers| headers.keys()) {
        assert!(!answer.header(name).is_empty(), "{method} {path}: {status} has no {name}");
    }
}

/// Checks a body that was accepted, all of it.
pub(crate) fn check_request(method: &Method, path: &str, body: &Value, answer: &Answer) {
    let Some(operation) = operation(method, path) else { return };
    if !answer.status.is_success() || answer.text().contains("\"problem\":{") {
        return;
    }
    let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
    assert!(schema.is_object(), "{method} {path}: no body is documented");
    let wrong = errors(schema, body);
    assert!(wrong.is_empty(), "{method} {path}: {wrong:#?} in {body}");
}

#[tokio::test]
async fn the_examples_fit_their_schemas_and_those_of_bodies_are_accepted() {
    let api = Api::new();
    let mut seen = 0;
    for (name, schema) in DOCUMENT["components"]["schemas"].as_object().unwrap() {
        for example in schema["examples"].as_array().into_iter().flatten() {
            let wrong = errors(&json!({"$ref": format!("#/components/schemas/{name}")}), example);
            assert!(wrong.is_empty(), "{name}: {wrong:#?} in {example}");
            seen += 1;
        }
    }
    assert!(seen > 10, "{seen}");
    let id = api.subscribe(json!({})).await["id"].as_str().unwrap().to_owned();
    for (path, operations) in DOCUMENT["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
            for example in follow(schema)["examples"].as_array().into_iter().flatten() {
                let method: Method = method.to_ascii_uppercase().parse().unwrap();
                let path = path.replace("{id}", &id);
                let answer = api.json(method.clone(), &path, &[], example.to_string()).await;
                assert!(answer.status.is_success(), "{method} {path} {example}: {}", answer.text());
            }
        }
    }
}

/// What the document refuses, the API refuses too, so that it promises no less than it takes.
#[tokio::test]
async fn a_schema_that_closes_itself_is_as_strict_as_the_reader() {
    let api = Api::new();
    let id = api.subscribe(json!({})).await["id"].as_str().unwrap().to_owned();
    for (path, operations) in DOCUMENT["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
            if follow(schema)["type"] != "object" {
                continue;
            }
            let method: Method = method.to_ascii_uppercase().parse().unwrap();
            let path = path.replace("{id}", &id);
            let answer = api.json(method.clone(), &path, &[], r#"{"no_such_field":1}"#).await;
            // An event of this id does not exist; a body is read first.
            assert_eq!(answer.problem(), (422, "target_not_allowed".into()), "{method} {path}");
        }
    }
}

/// `UPDATE=1 cargo test -p webhook-http-axum --test api openapi_json` writes it anew.
#[test]
fn the_committed_openapi_json_is_what_the_code_says() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");
    let written = format!("{:#}\n", openapi("/api/v1"));
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(file, &written).unwrap();
    }
    let committed = std::fs::read_to_string(file).unwrap_or_default();
    assert!(committed == written, "docs/openapi.json is not what the code says; run this test with UPDATE=1");
}
