<?php
// With a socket that each child of the pool keeps from one request to the next (pfsockopen), and the few lines of HTTP
// written by hand: more than most scripts do, and the most that one can.
declare(strict_types=1);

const ATTEMPTS = 2; // the service may have closed the kept connection

// The status of the answer; 0: there is none.
function insert(string $path, array $entity): int
{
    [$headers, $body] = insert_request($path, $entity);
    $headers[] = "Host: 127.0.0.1:{$_SERVER['TABLE_PORT']}";
    $headers[] = 'Content-Length: ' . strlen($body);
    $request = "POST $path HTTP/1.1\r\n" . implode("\r\n", $headers) . "\r\n\r\n$body";
    for ($attempt = 0; $attempt < ATTEMPTS; $attempt++) {
        $socket = pfsockopen('127.0.0.1', (int)$_SERVER['TABLE_PORT'], $number, $text, 2.0);
        if ($socket === false) {
            continue;
        }
        stream_set_timeout($socket, 3);
        if (fwrite($socket, $request) === strlen($request) && ($code = read_answer($socket)) > 0) {
            return $code;
        }
        fclose($socket);
    }
    return 0;
}

// The status; 0: the connection is not good.
function read_answer($socket): int
{
    $status = fgets($socket);
    if ($status === false || !preg_match('~^HTTP/1\.1 (\d{3})~', $status, $match)) {
        return 0;
    }
    $length = 0;
    while (($line = fgets($socket)) !== false && $line !== "\r\n") {
        if (stripos($line, 'Content-Length:') === 0) {
            $length = (int)substr($line, 15);
        }
    }
    if ($length > 0) {
        stream_get_contents($socket, $length);
    }
    return (int)$match[1];
}
