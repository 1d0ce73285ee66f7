//! Conditions as SQL over a column of `jsonb`, with the meaning that they have in memory.
//!
//! A key is asked for by a JSON path in lax mode: steps go through arrays, and `[*]` takes the
//! elements of one or the value itself. Everything that comes from the caller is a parameter.

use postgres::types::ToSql;
use serde_json::{Map, Value, json};

use super::id_to_sql;
use wenyi_store::vector_store::PointId;

/// A condition with its parameters.
#[derive(Debug)]
pub(super) struct Where {
    pub(super) sql: String,
    pub(super) values: Vec<Parameter>,
}

#[derive(Debug)]
pub(super) enum Parameter {
    Text(String),
    Texts(Vec<String>),
    Number(i64),
}

impl Where {
    /// No condition.
    pub(super) fn everything() -> Self {
        Self {
            sql: "true".into(),
            values: Vec::new(),
        }
    }

    pub(super) fn ids(ids: Vec<String>) -> Self {
        Self {
            sql: "id = ANY($1)".into(),
            values: vec![Parameter::Texts(ids)],
        }
    }

    /// A filter that was read before, so that its form is known to be right.
    pub(super) fn meets(filter: &Value) -> Result<Self, String> {
        let mut writer = Writer { values: Vec::new() };
        let sql = writer.filter(filter, "p.payload")?;
        let values = writer.values;
        Ok(Self { sql, values })
    }

    pub(super) fn values(&self) -> Vec<&(dyn ToSql + Sync)> {
        let values = self.values.iter().map(|value| match value {
            Parameter::Text(text) => text as &(dyn ToSql + Sync),
            Parameter::Texts(texts) => texts,
            Parameter::Number(number) => number,
        });
        values.collect()
    }
}

struct Writer {
    values: Vec<Parameter>,
}

impl Writer {
    fn parameter(&mut self, value: Parameter) -> String {
        self.values.push(value);
        format!("${}", self.values.len())
    }

    fn filter(&mut self, filter: &Value, subject: &str) -> Result<String, String> {
        let mut clauses = Vec::new();
        for (name, value) in filter.as_object().into_iter().flatten() {
            if value.is_null() {
                continue;
            }
            if name == "min_should" {
                let all = self.list(&value["conditions"], subject)?;
                let counted: Vec<String> = all.iter().map(|sql| format!("({sql})::int")).collect();
                let least = value["min_count"].as_i64().unwrap_or(i64::MAX);
                let least = self.parameter(Parameter::Number(least));
                clauses.push(format!("{} >= {least}::bigint", sum(&counted)));
                continue;
            }
            let all = self.list(value, subject)?;
            match name.as_str() {
                "must" => clauses.extend(all),
                "must_not" => clauses.extend(all.iter().map(|sql| format!("NOT ({sql})"))),
                _ if all.is_empty() => {}
                _ => clauses.push(all.join(" OR ")),
            }
        }
        Ok(all_of(&clauses))
    }

    fn list(&mut self, json: &Value, subject: &str) -> Result<Vec<String>, String> {
        match json {
            Value::Array(all) => all
                .iter()
                .map(|json| self.condition(json, subject))
                .collect(),
            one => Ok(vec![self.condition(one, subject)?]),
        }
    }

    fn condition(&mut self, json: &Value, subject: &str) -> Result<String, String> {
        if let Some(key) = json["key"].as_str() {
            return self.field(key, json, subject);
        }
        let Some((name, value)) = json.as_object().and_then(|fields| fields.iter().next()) else {
            return Ok("true".into());
        };
        let key = value["key"].as_str().unwrap_or_default();
        match name.as_str() {
            "has_id" => {
                let ids = value.as_array().into_iter().flatten();
                let ids = ids
                    .filter_map(PointId::from_json)
                    .map(|id| id_to_sql(&id))
                    .collect();
                let ids = self.parameter(Parameter::Texts(ids));
                Ok(format!("p.id = ANY({ids})"))
            }
            "is_empty" => Ok(self.is_empty(key, subject)),
            "is_null" => Ok(self.is_null(key, subject)),
            "nested" => {
                let element = format!("e{}", self.values.len());
                let path = self.parameter(Parameter::Text(format!("{}[*]", path(key))));
                let inner = self.filter(&value["filter"], &format!("{element}.v"))?;
                Ok(format!(
                    "EXISTS (SELECT 1 FROM jsonb_path_query({subject}, {path}::text::jsonpath)
                             AS {element} (v) WHERE {inner})"
                ))
            }
            _ => self.filter(json, subject),
        }
    }

    fn field(&mut self, key: &str, json: &Value, subject: &str) -> Result<String, String> {
        let tests = json.as_object().into_iter().flatten();
        let mut tests = tests.filter(|(name, value)| *name != "key" && !value.is_null());
        let Some((name, test)) = tests.next() else {
            return Ok("true".into());
        };
        match name.as_str() {
            "match" => self.matching(key, test, subject),
            "range" => Ok(self.range(key, test, subject)),
            "values_count" => Ok(self.count(key, test, subject)),
            "is_empty" if test == false => Ok(format!("NOT ({})", self.is_empty(key, subject))),
            "is_empty" => Ok(self.is_empty(key, subject)),
            _ if test == false => Ok(format!("NOT ({})", self.is_null(key, subject))),
            _ => Ok(self.is_null(key, subject)),
        }
    }

    fn matching(&mut self, key: &str, test: &Value, subject: &str) -> Result<String, String> {
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        if let Some(value) = test.get("value") {
            return Ok(self.is_any(key, std::slice::from_ref(value), subject));
        }
        if let Some(values) = test.get("any") {
            return Ok(self.is_any(key, &list(values), subject));
        }
        if let Some(values) = test.get("except") {
            let (variables, names) = variables(&list(values));
            let others: Vec<String> = names
                .iter()
                .map(|name| format!("(!(@ == {name}) || ((@ == {name}) is unknown))"))
                .collect();
            let test = match others.is_empty() {
                true => "@ != null".to_owned(),
                false => format!("@ != null && {}", others.join(" && ")),
            };
            return Ok(self.exists(key, &test, &variables, subject));
        }
        if let Some(phrase) = test["phrase"].as_str() {
            let path = self.parameter(Parameter::Text(format!("{}[*]", path(key))));
            let phrase = self.parameter(Parameter::Text(phrase.to_lowercase()));
            return Ok(format!(
                "EXISTS (SELECT 1 FROM jsonb_path_query({subject}, {path}::text::jsonpath) AS e (v)
                         WHERE jsonb_typeof(v) = 'string'
                           AND strpos(lower(v #>> '{{}}'), {phrase}::text) > 0)"
            ));
        }
        let name = test.as_object().and_then(|test| test.keys().next());
        let name = name.map_or("text", String::as_str);
        Err(format!(
            "PostgreSQL cannot `match` a `{name}` by its words; `phrase` it can"
        ))
    }

    fn is_any(&mut self, key: &str, values: &[Value], subject: &str) -> String {
        let (variables, names) = variables(values);
        let tests: Vec<String> = names.iter().map(|name| format!("@ == {name}")).collect();
        if tests.is_empty() {
            return "false".into();
        }
        self.exists(key, &tests.join(" || "), &variables, subject)
    }

    fn range(&mut self, key: &str, bounds: &Value, subject: &str) -> String {
        let (mut tests, mut variables) = (Vec::new(), Map::new());
        for (name, operator) in [("gt", ">"), ("gte", ">="), ("lt", "<"), ("lte", "<=")] {
            if let Some(bound) = bounds.get(name).filter(|bound| !bound.is_null()) {
                tests.push(format!("@ {operator} ${name}"));
                variables.insert(name.into(), bound.clone());
            }
        }
        if tests.is_empty() {
            tests.push("(@.type() == \"number\" || @.type() == \"string\")".into());
        }
        self.exists(key, &tests.join(" && "), &variables.into(), subject)
    }

    fn count(&mut self, key: &str, bounds: &Value, subject: &str) -> String {
        let path = self.parameter(Parameter::Text(format!("{}[*]", path(key))));
        let count =
            format!("(SELECT count(*) FROM jsonb_path_query({subject}, {path}::text::jsonpath))");
        let mut tests = Vec::new();
        for (name, operator) in [("gt", ">"), ("gte", ">="), ("lt", "<"), ("lte", "<=")] {
            if let Some(bound) = bounds.get(name).and_then(Value::as_i64) {
                let bound = self.parameter(Parameter::Number(bound));
                tests.push(format!("{count} {operator} {bound}::bigint"));
            }
        }
        all_of(&tests)
    }

    fn is_empty(&mut self, key: &str, subject: &str) -> String {
        let there = self.exists(key, "@ != null", &json!({}), subject);
        format!("NOT ({there})")
    }

    fn is_null(&mut self, key: &str, subject: &str) -> String {
        let path = self.parameter(Parameter::Text(path(key)));
        format!(
            "EXISTS (SELECT 1 FROM jsonb_path_query({subject}, {path}::text::jsonpath) AS e (v)
                     WHERE v = 'null'::jsonb)"
        )
    }

    /// True if one of the key's values passes the test.
    fn exists(&mut self, key: &str, test: &str, variables: &Value, subject: &str) -> String {
        let whole = |path: String| format!("{path}[*] ? ({test})");
        let variables = self.parameter(Parameter::Text(variables.to_string()));
        let there = self.parameter(Parameter::Text(whole(path(key))));
        let by_path = format!(
            "jsonb_path_exists({subject}, {there}::text::jsonpath, {variables}::text::jsonb)"
        );
        if !key.contains('.') {
            return by_path;
        }
        // A key with a dot in its name comes before a path.
        let name = self.parameter(Parameter::Text(key.into()));
        let there = self.parameter(Parameter::Text(whole(format!("$.{}", json!(key)))));
        format!(
            "CASE WHEN jsonb_typeof({subject}) = 'object' AND jsonb_exists({subject}, {name}::text)
             THEN jsonb_path_exists({subject}, {there}::text::jsonpath, {variables}::text::jsonb)
             ELSE {by_path} END"
        )
    }
}

/// The JSON path of a key: its names quoted, `[]` after one left out, since steps go through arrays.
fn path(key: &str) -> String {
    let names = key
        .split('.')
        .map(|name| json!(name.strip_suffix("[]").unwrap_or(name)));
    names.fold("$".to_owned(), |path, name| format!("{path}.{name}"))
}

fn variables(values: &[Value]) -> (Value, Vec<String>) {
    let names: Vec<String> = (0..values.len()).map(|index| format!("v{index}")).collect();
    let variables: Map<String, Value> = names.iter().cloned().zip(values.iter().cloned()).collect();
    let names = names.iter().map(|name| format!("${name}")).collect();
    (variables.into(), names)
}

fn all_of(clauses: &[String]) -> String {
    match clauses {
        [] => "true".into(),
        some => format!("({})", some.join(") AND (")),
    }
}

fn sum(counted: &[String]) -> String {
    match counted {
        [] => "0".into(),
        some => some.join(" + "),
    }
}
