<?php
// With curl, the usual way.  PHP drops its handles at the end of a request, and their connections with them.
declare(strict_types=1);

// The status of the answer; 0: there is none.
function insert(string $path, array $entity): int
{
    [$headers, $body] = insert_request($path, $entity);
    $curl = curl_init("http://127.0.0.1:{$_SERVER['TABLE_PORT']}$path");
    curl_setopt_array($curl, [
        CURLOPT_POSTFIELDS => $body,
        CURLOPT_HTTPHEADER => $headers,
        CURLOPT_RETURNTRANSFER => true,
        CURLOPT_CONNECTTIMEOUT => 2,
        CURLOPT_TIMEOUT => 3,
    ]);
    return curl_exec($curl) === false ? 0 : curl_getinfo($curl, CURLINFO_RESPONSE_CODE);
}
