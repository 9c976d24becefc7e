//! A connection that speaks the server's protocol, for what tests do behind the queue's back.

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Text(String),
    Error(String),
    Int(i64),
    Nothing,
    List(Vec<Value>),
}

impl Value {
    pub(crate) fn text(self) -> String {
        match self {
            Self::Text(text) => text,
            other => panic!("a text, not {other:?}"),
        }
    }

    pub(crate) fn int(self) -> i64 {
        match self {
            Self::Int(number) => number,
            other => panic!("a number, not {other:?}"),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Resp {
    stream: BufReader<TcpStream>,
}

impl Resp {
    pub(crate) async fn connect(port: u16) -> Self {
        Self { stream: BufReader::new(TcpStream::connect(("127.0.0.1", port)).await.unwrap()) }
    }

    pub(crate) async fn call(&mut self, words: &[&str]) -> Value {
        let mut command = format!("*{}\r\n", words.len());
        for word in words {
            command.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        self.stream.get_mut().write_all(command.as_bytes()).await.unwrap();
        self.read().await
    }

    /// A field of INFO.
    pub(crate) async fn info(&mut self, section: &str, field: &str) -> String {
        let text = self.call(&["INFO", section]).await.text();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{field}:"))).unwrap();
        line.trim().to_owned()
    }

    async fn read(&mut self) -> Value {
        let mut line = String::new();
        self.stream.read_line(&mut line).await.unwrap();
        let (kind, rest) = line.trim_end().split_at(1);
        match kind {
            "+" => Value::Text(rest.to_owned()),
            "-" => Value::Error(rest.to_owned()),
            ":" => Value::Int(rest.parse().unwrap()),
            "$" => {
                let Ok(length) = rest.parse::<usize>() else { return Value::Nothing };
                let mut bytes = vec![0; length + 2];
                self.stream.read_exact(&mut bytes).await.unwrap();
                bytes.truncate(length);
                Value::Text(String::from_utf8_lossy(&bytes).into_owned())
            }
            "*" => {
                let Ok(length) = rest.parse::<usize>() else { return Value::Nothing };
                let mut items = Vec::with_capacity(length);
                for _ in 0..length {
                    items.push(Box::pin(self.read()).await);
                }
                Value::List(items)
            }
            other => panic!("not an answer: {other}{rest}"),
        }
    }
}
