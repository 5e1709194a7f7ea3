//! Documents as services publish them.

use serde_json::json;

use super::*;

fn wanted(host: Option<&str>) -> Wanted {
    Wanted { name: "shop".parse().unwrap(), host: host.map(str::to_owned) }
}

/// In the shape that frameworks give, with what service files cannot say among it.
fn document() -> Value {
    json!({
        "openapi": "3.1.0",
        "info": { "title": "The\nshop", "version": "1" },
        "servers": [{ "url": "https://api.shop.example/v2/" }],
        "components": {
            "securitySchemes": { "key": { "type": "apiKey", "in": "header", "name": "X-Key" } },
            "parameters": { "Page": { "name": "page", "in": "query", "schema": { "type": "integer" } } },
            "schemas": { "Order": { "type": "object", "required": ["item"], "properties": {
                "item": { "type": "string" }, "count": { "type": "integer" }, "gift": { "type": "boolean" },
                "tags": { "type": "array", "items": { "type": "string" } },
                "price": { "type": "number" }, "note": { "type": ["string", "null"] },
                "cardToken": { "type": "string" }, "a/b": { "type": "string" },
            } } },
        },
        "paths": {
            "/orders/{orderId}": {
                "get": { "operationId": "getOrder", "summary": "One\n  order." },
                "delete": { "operationId": "get_order" },
            },
            "/orders/mine": { "get": {} },
            "/orders": {
                "parameters": [{ "$ref": "#/components/parameters/Page" }],
                "get": { "operationId": "listOrders", "parameters": [
                    { "name": "state", "in": "query", "required": true, "schema": { "type": "string" } },
                    { "name": "access_token", "in": "query", "schema": { "type": "string" } },
                    { "name": "X-Trace", "in": "header", "schema": { "type": "string" } },
                ] },
                "post": { "operationId": "placeOrder", "requestBody": { "required": true, "content": {
                    "application/json": { "schema": { "$ref": "#/components/schemas/Order" } } } } },
            },
            "/files/{a}-{b}": { "get": {} },
            "/upload": { "put": { "requestBody": { "content": {
                "application/json": { "schema": {} }, "text/csv": {} } } } },
        },
    })
}

#[test]
fn a_document_becomes_a_service_file_that_can_be_read() {
    let text = service_file(&document(), &wanted(None)).unwrap();
    let expected = r#"# The shop: made from its OpenAPI document. Read it before you use it: effects are those of HTTP's methods.
name = "shop"
hosts = ["api.shop.example"]
ports = [443]
protocol = "https"

[credential]
secret = "shop-key"
place = { header = "X-Key" }

[[operation]]
name = "list-orders"
effect = "read"
methods = ["GET"]
path = "/v2/orders"
[operation.arguments]
page = "query:page integer?"
state = "query:state string"

[[operation]]
name = "place-order"
effect = "write"
methods = ["POST"]
path = "/v2/orders"
[operation.arguments]
a_b = "body:/a~1b string?"
count = "body:/count integer?"
gift = "body:/gift boolean?"
item = "body:/item string"
page = "query:page integer?"
tags = "body:/tags strings?"

[[operation]]
name = "put-upload"
effect = "write"
methods = ["PUT"]
path = "/v2/upload"

[[operation]]
name = "get-orders-mine"
effect = "read"
methods = ["GET"]
path = "/v2/orders/mine"

# One order.
[[operation]]
name = "get-order"
effect = "read"
methods = ["GET"]
path = "/v2/orders/{order_id}"

[[operation]]
name = "get-order-2"
effect = "delete"
methods = ["DELETE"]
path = "/v2/orders/{order_id}"

# Left out, because a service file cannot say it:
# put /upload: arguments of its body, which need not be JSON
# /files/{a}-{b}: its path
"#;
    assert_eq!(text, expected);
}

#[test]
fn what_cannot_be_used_says_what_to_do() {
    let said = |document: &Value, host| service_file(document, &wanted(host)).unwrap_err().to_string();
    assert!(said(&json!({ "swagger": "2.0" }), None).contains("convert an older one"));
    let mut relative = document();
    relative["servers"] = json!([{ "url": "/v1" }]);
    assert!(said(&relative, None).contains("--host api.example.com"));
    let text = service_file(&relative, &wanted(Some("localhost:8080"))).unwrap();
    assert!(text.contains("ports = [8080]") && text.contains("path = \"/v1/orders\""), "{text}");
    relative["servers"] = json!([{ "url": "https://{region}.shop.example" }]);
    assert!(said(&relative, None).contains("--host"));
}

#[test]
fn references_without_end_and_odd_shapes_are_passed_over() {
    let document = json!({
        "openapi": "3.0.3", "servers": [{ "url": "http://a.example" }],
        "components": { "schemas": { "Loop": { "$ref": "#/components/schemas/Loop" } } },
        "paths": { "/x": { "post": { "requestBody": { "content": { "application/json": {
            "schema": { "$ref": "#/components/schemas/Loop" } } } } }, "get": 7 }, "/y": [] },
    });
    let text = service_file(&document, &wanted(None)).unwrap();
    assert!(text.contains("protocol = \"http\"") && text.contains("name = \"post-x\""), "{text}");
}

#[test]
fn a_document_in_yaml_is_the_same_document() {
    let json = document();
    let yaml = "
openapi: 3.1.0
info: {title: \"The\\nshop\", version: '1'}
servers:
  - url: https://api.shop.example/v2/
components:
  securitySchemes:
    key: {type: apiKey, in: header, name: X-Key}
  parameters:
    Page: {name: page, in: query, schema: {type: integer}}
  schemas:
    Order:
      type: object
      required: [item]
      properties:
        item: &text {type: string}
        count: {type: integer}
        gift: {type: boolean}
        tags: {type: array, items: *text}
        price: {type: number}
        note: {type: [string, 'null']}
        cardToken: *text
        a/b: *text
paths:
  /orders/{orderId}:
    get: {operationId: getOrder, summary: \"One\\n  order.\"}
    delete: {operationId: get_order}
  /orders/mine:
    get: {}
  /orders:
    parameters:
      - $ref: '#/components/parameters/Page'
    get:
      operationId: listOrders
      parameters:
        - {name: state, in: query, required: true, schema: *text}
        - {name: access_token, in: query, schema: *text}
        - {name: X-Trace, in: header, schema: *text}
    post:
      operationId: placeOrder
      requestBody:
        required: true
        content:
          application/json:
            schema: {$ref: '#/components/schemas/Order'}
  /files/{a}-{b}:
    get: {}
  /upload:
    put:
      requestBody:
        content:
          application/json: {schema: {}}
          text/csv: {}
";
    assert_eq!(crate::yaml::read(yaml).unwrap(), json);
}
