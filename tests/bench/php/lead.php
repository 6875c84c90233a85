<?php
// A lead as a PHP script takes it: checks the key, reads the JSON, inserts one row into the table and, where MAIL_PORT
// is set, mails the notification, all before the answer.  INSERT names the file with the function that inserts.
declare(strict_types=1);

const ACCOUNT = 'devstoreaccount1';
const TABLE = 'PhpLeads';

require __DIR__ . '/' . $_SERVER['INSERT'];

// The headers and the body of the request that inserts the entity.
function insert_request(string $path, array $entity): array
{
    $date = gmdate('D, d M Y H:i:s \G\M\T');
    $mac = hash_hmac('sha256', "$date\n/" . ACCOUNT . $path, base64_decode($_SERVER['TABLE_KEY']), true);
    $headers = [
        "x-ms-date: $date",
        'x-ms-version: 2019-02-02',
        'Authorization: SharedKeyLite ' . ACCOUNT . ':' . base64_encode($mac),
        'Accept: application/json;odata=nometadata',
        'DataServiceVersion: 3.0;',
        'Prefer: return-no-content',
        'Content-Type: application/json',
    ];
    return [$headers, json_encode($entity, JSON_UNESCAPED_SLASHES | JSON_UNESCAPED_UNICODE | JSON_THROW_ON_ERROR)];
}

function answer(int $code, array $what): never
{
    http_response_code($code);
    header('Content-Type: application/json');
    echo json_encode($what), "\n";
    exit;
}

// One dialogue, one mail, as mail libraries do it.
function send_mail(string $subject, string $text, string $reply_to): bool
{
    $socket = fsockopen('127.0.0.1', (int)$_SERVER['MAIL_PORT'], $number, $error, 5.0);
    if ($socket === false) {
        return false;
    }
    $expect = function (string $digit) use ($socket): bool {
        do {
            $line = fgets($socket);
        } while ($line !== false && ($line[3] ?? '') === '-');
        return $line !== false && $line[0] === $digit;
    };
    $say = function (string $line, string $digit) use ($socket, $expect): bool {
        return fwrite($socket, "$line\r\n") !== false && $expect($digit);
    };
    $message = "From: Website leads <leads@example.com>\r\nTo: sales@example.com\r\nReply-To: $reply_to\r\n"
        . "Subject: $subject\r\nDate: " . date(DATE_RFC2822) . "\r\nMessage-ID: <" . bin2hex(random_bytes(16)) . "@example.com>\r\n"
        . "MIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
        . preg_replace('/^\./m', '..', $text);
    $sent = $expect('2') && $say('EHLO example.com', '2') && $say('MAIL FROM:<leads@example.com>', '2')
        && $say('RCPT TO:<sales@example.com>', '2') && $say('DATA', '3') && $say("$message\r\n.", '2');
    fwrite($socket, "QUIT\r\n");
    fclose($socket);
    return $sent;
}

parse_str($_SERVER['QUERY_STRING'] ?? '', $query);
if (!hash_equals($_SERVER['LEAD_KEY'], (string)($query['key'] ?? ''))) {
    answer(401, ['title' => 'Unauthorized']);
}
$body = file_get_contents('php://input');
$lead = json_decode($body, true, 16);
if (!is_array($lead) || !is_array($lead['UserDetails'] ?? null)) {
    answer(400, ['title' => 'Bad Request']);
}
$details = $lead['UserDetails'];
[$source, $offer] = explode('|', $lead['LeadSource'] ?? '', 2) + ['', 'unknown'];
$id = bin2hex(random_bytes(16));
$received = gmdate('Y-m-d\TH:i:s\Z');
$email = (string)($details['Email'] ?? '');
$code = insert('/' . ACCOUNT . '/' . TABLE, [
    'PartitionKey' => strtolower($offer),
    'RowKey' => md5(strtolower($email)) . '-' . md5($body),
    'ActionCode' => $lead['ActionCode'] ?? '',
    'CreatedTime' => $received,
    'CustomerInfo' => json_encode($details),
    'Description' => $lead['Description'] ?? '',
    'LeadSource' => $lead['LeadSource'] ?? '',
    'OfferDisplayName' => $lead['OfferTitle'] ?? '',
    'FirstName' => $details['FirstName'] ?? '',
    'LastName' => $details['LastName'] ?? '',
    'Email' => $email,
    'Phone' => $details['Phone'] ?? '',
    'Country' => $details['Country'] ?? '',
    'Company' => $details['Company'] ?? '',
    'Title' => $details['Title'] ?? '',
    'Source' => $source,
    'ReceivedTime@odata.type' => 'Edm.DateTime',
    'ReceivedTime' => $received,
    'DeliveryId' => $id,
    'Payload' => $body,
]);
if ($code === 409) {
    answer(200, ['status' => 'repeat']);
}
if ($code < 200 || $code > 299) {
    answer(503, ['title' => 'Service Unavailable']);
}
if ((int)$_SERVER['MAIL_PORT'] > 0) {
    $text = "A lead for $offer:\r\n\r\n";
    foreach ($details as $name => $value) {
        $text .= "$name: $value\r\n";
    }
    $reply_to = filter_var($email, FILTER_VALIDATE_EMAIL) ? $email : 'leads@example.com';
    $company = preg_replace('/[^ -~]/', '?', (string)($details['Company'] ?? ''));
    if (!send_mail("New lead: $company", "$text\r\nId: $id\r\n", $reply_to)) {
        answer(503, ['title' => 'Service Unavailable']);
    }
}
answer(200, ['status' => 'stored', 'id' => $id]);
