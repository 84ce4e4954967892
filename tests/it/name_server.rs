//! A name server of the tests, on loopback over UDP and TCP: it answers what a test tells it to, and lies on demand.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use hickory_resolver::proto::op::{Message, MessageType, ResponseCode};
use hickory_resolver::proto::rr::rdata::{A, AAAA, CNAME, NS, SOA, SRV};
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};

/// What the server does with a question.
#[derive(Clone)]
pub(crate) enum Reply {
    /// These records of the name, living so many seconds.
    Records(u32, Vec<RData>),
    /// Any records, of any name.
    Raw(Vec<Record>),
    /// NOERROR without records.
    Nothing,
    /// A code without records.
    Code(ResponseCode),
    /// NOERROR with nothing but the name of another server.
    Referral,
    /// No answer.
    Silence,
    /// Cut short over UDP, whole over TCP.
    OverTcp(Box<Reply>),
    /// Cut short whatever is done.
    CutShort,
}

type Zone = BTreeMap<(String, RecordType), (Reply, usize)>;

/// The server; names that it was not told are NXDOMAIN.
pub(crate) struct NameServer {
    pub(crate) address: SocketAddr,
    zone: Arc<Mutex<Zone>>,
    ended: Arc<AtomicBool>,
}

impl NameServer {
    pub(crate) fn start() -> Self {
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()) {
                break (udp, tcp);
            }
        };
        let server = Self {
            address: udp.local_addr().unwrap(),
            zone: Arc::default(),
            ended: Arc::new(AtomicBool::new(false)),
        };
        let (zone, ended) = (Arc::clone(&server.zone), Arc::clone(&server.ended));
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok((length, from)) = udp.recv_from(&mut bytes) {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                if let Some(answer) = answer(&zone, &bytes[..length], false) {
                    let _ = udp.send_to(&answer, from);
                }
            }
        });
        let (zone, ended) = (Arc::clone(&server.zone), Arc::clone(&server.ended));
        std::thread::spawn(move || {
            for stream in tcp.incoming() {
                if ended.load(Ordering::SeqCst) {
                    return;
                }
                let (mut stream, zone) = (stream.unwrap(), Arc::clone(&zone));
                std::thread::spawn(move || {
                    let mut length = [0; 2];
                    while stream.read_exact(&mut length).is_ok() {
                        let mut question = vec![0; u16::from_be_bytes(length).into()];
                        if stream.read_exact(&mut question).is_err() {
                            return;
                        }
                        let Some(answer) = answer(&zone, &question, true) else { continue };
                        let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
                        if stream.write_all(&[&length[..], &answer].concat()).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        server
    }

    /// From now on, this is the reply.
    pub(crate) fn tell(&self, name: &str, kind: RecordType, reply: Reply) {
        let mut zone = self.zone.lock().unwrap();
        let entry = zone.entry((name.to_owned(), kind)).or_insert((Reply::Nothing, 0));
        entry.0 = reply;
    }

    /// The same for both families of addresses.
    pub(crate) fn tell_both(&self, name: &str, reply: &Reply) {
        self.tell(name, RecordType::A, reply.clone());
        self.tell(name, RecordType::AAAA, reply.clone());
    }

    /// These are a name's addresses, each family in its own records.
    pub(crate) fn addresses(&self, name: &str, ttl: u32, addresses: &[&str]) {
        let (v4, v6): (Vec<IpAddr>, Vec<IpAddr>) =
            addresses.iter().map(|text| text.parse::<IpAddr>().unwrap()).partition(IpAddr::is_ipv4);
        for (kind, addresses) in [(RecordType::A, v4), (RecordType::AAAA, v6)] {
            let records: Vec<_> = addresses.into_iter().map(address).collect();
            let reply = if records.is_empty() { Reply::Nothing } else { Reply::Records(ttl, records) };
            self.tell(name, kind, reply);
        }
    }

    /// These are a name's SRV records: target and port.
    pub(crate) fn services(&self, name: &str, targets: &[(&str, u16)]) {
        let records = targets.iter().map(|(target, port)| RData::SRV(SRV::new(0, 0, *port, full(target))));
        self.tell(name, RecordType::SRV, Reply::Records(0, records.collect()));
    }

    /// How often this was asked.
    pub(crate) fn asked(&self, name: &str, kind: RecordType) -> usize {
        self.zone.lock().unwrap().get(&(name.to_owned(), kind)).map_or(0, |(_, count)| *count)
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::SeqCst);
        // Whoever waits is woken to see that it is over.
        let _ = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().send_to(&[0], self.address);
        let _ = std::net::TcpStream::connect(self.address);
    }
}

pub(crate) fn address(ip: IpAddr) -> RData {
    match ip {
        IpAddr::V4(ip) => RData::A(A(ip)),
        IpAddr::V6(ip) => RData::AAAA(AAAA(ip)),
    }
}

pub(crate) fn alias(target: &str) -> RData {
    RData::CNAME(CNAME(full(target)))
}

pub(crate) fn full(name: &str) -> Name {
    let mut name = Name::from_str(name).unwrap();
    name.set_fqdn(true);
    name
}

fn answer(zone: &Mutex<Zone>, question: &[u8], over_tcp: bool) -> Option<Vec<u8>> {
    let question = Message::from_vec(question).ok()?;
    let query = question.queries.first()?.clone();
    let name = query.name().to_lowercase().to_ascii().trim_end_matches('.').to_owned();
    let reply = {
        let mut zone = zone.lock().unwrap();
        let known = zone.keys().any(|(known, _)| *known == name);
        let otherwise = if known { Reply::Nothing } else { Reply::Code(ResponseCode::NXDomain) };
        let entry = zone.entry((name, query.query_type())).or_insert((otherwise, 0));
        entry.1 += 1;
        entry.0.clone()
    };
    let mut answer = Message::response(question.metadata.id, question.metadata.op_code);
    answer.metadata.message_type = MessageType::Response;
    answer.metadata.recursion_desired = true;
    answer.metadata.recursion_available = true;
    answer.add_query(query.clone());
    let reply = match reply {
        Reply::OverTcp(reply) if over_tcp => *reply,
        Reply::OverTcp(_) => Reply::CutShort,
        reply => reply,
    };
    let authority = SOA::new(full("ns.test"), full("admin.test"), 1, 60, 60, 60, 0);
    let authority = Record::from_rdata(full("test"), 0, RData::SOA(authority));
    match reply {
        Reply::Silence => return None,
        Reply::Records(ttl, records) => {
            let named = |data| Record::from_rdata(query.name().clone(), ttl, data);
            answer.add_answers(records.into_iter().map(named));
        }
        Reply::Raw(records) => {
            answer.add_answers(records);
        }
        Reply::Nothing => {
            answer.add_authority(authority);
        }
        Reply::Code(code) => {
            answer.metadata.response_code = code;
            if code == ResponseCode::NXDomain {
                answer.add_authority(authority);
            }
        }
        Reply::Referral => {
            answer.add_authority(Record::from_rdata(full("test"), 60, RData::NS(NS(full("ns.test")))));
        }
        Reply::CutShort | Reply::OverTcp(_) => answer.metadata.truncation = true,
    }
    answer.to_vec().ok()
}
