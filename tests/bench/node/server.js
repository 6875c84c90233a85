// A lead as a Node service takes it: the usual http server with the official Table client and nodemailer.  Checks the
// key, reads the JSON, inserts one row and, where MAIL_PORT is set, mails the notification, all before the answer.
//
//   node server.js SOCKET     with LEAD_KEY, TABLE_PORT, TABLE_KEY and MAIL_PORT in the environment
'use strict';

const crypto = require('node:crypto');
const http = require('node:http');
const { AzureNamedKeyCredential, TableClient } = require('@azure/data-tables');
const nodemailer = require('nodemailer');

const ACCOUNT = 'devstoreaccount1';
const BODY_BYTES = 131072;
const { LEAD_KEY, TABLE_PORT, TABLE_KEY, MAIL_PORT } = process.env;

const table = new TableClient(`http://127.0.0.1:${TABLE_PORT}/${ACCOUNT}`, 'NodeLeads',
  new AzureNamedKeyCredential(ACCOUNT, TABLE_KEY), { allowInsecureConnection: true });
// As many kept connections as PHP-FPM has children.
const mail = MAIL_PORT && nodemailer.createTransport({ host: '127.0.0.1', port: Number(MAIL_PORT), ignoreTLS: true, pool: true,
  maxConnections: 16, maxMessages: Infinity });
const wantedKey = crypto.createHash('sha256').update(LEAD_KEY).digest();

const hash = (algorithm, text) => crypto.createHash(algorithm).update(text).digest();
const hasKey = (req) => crypto.timingSafeEqual(hash('sha256', new URL(req.url, 'http://localhost').searchParams.get('key') || ''), wantedKey);

function entityOf(lead, body, id) {
  const details = lead.UserDetails;
  const [source, offer = 'unknown'] = (lead.LeadSource || '').split('|');
  const received = new Date();
  return {
    partitionKey: offer.toLowerCase(),
    rowKey: `${hash('md5', (details.Email || '').toLowerCase()).toString('hex')}-${hash('md5', body).toString('hex')}`,
    ActionCode: lead.ActionCode, CreatedTime: received.toISOString(), CustomerInfo: JSON.stringify(details),
    Description: lead.Description, LeadSource: lead.LeadSource, OfferDisplayName: lead.OfferTitle,
    FirstName: details.FirstName, LastName: details.LastName, Email: details.Email, Phone: details.Phone,
    Country: details.Country, Company: details.Company, Title: details.Title,
    Source: source, ReceivedTime: received, DeliveryId: id, Payload: body,
  };
}

function notification(lead, id) {
  const fields = Object.entries(lead.UserDetails).map(([name, value]) => `${name}: ${value}\n`);
  return { from: 'Website leads <leads@example.com>', to: 'sales@example.com', replyTo: lead.UserDetails.Email,
    subject: `New lead: ${lead.UserDetails.Company}`, text: `A lead for ${lead.LeadSource}:\n\n${fields.join('')}\nId: ${id}\n` };
}

// The status and the document of the answer.
async function take(req) {
  if (!hasKey(req)) return [401, { title: 'Unauthorized' }];
  const chunks = [];
  let size = 0;
  for await (const chunk of req) {
    size += chunk.length;
    if (size > BODY_BYTES) return [413, { title: 'Content Too Large' }];
    chunks.push(chunk);
  }
  const body = Buffer.concat(chunks).toString();
  let lead;
  try { lead = JSON.parse(body); } catch { lead = undefined; }
  if (!lead || typeof lead.UserDetails !== 'object') return [400, { title: 'Bad Request' }];
  const id = crypto.randomUUID();
  try {
    await table.createEntity(entityOf(lead, body, id));
  } catch (error) {
    if (error.statusCode === 409) return [200, { status: 'repeat' }];
    throw error;
  }
  if (mail) await mail.sendMail(notification(lead, id));
  return [200, { status: 'stored', id }];
}

const server = http.createServer(async (req, res) => {
  const [code, what] = await take(req).catch((error) => {
    console.error(error);
    return [503, { title: 'Service Unavailable' }];
  });
  const text = JSON.stringify(what);
  res.writeHead(code, { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(text) });
  res.end(text);
});
server.keepAliveTimeout = 60000;
server.listen(process.argv[2]);
process.on('SIGTERM', () => process.exit(0));
