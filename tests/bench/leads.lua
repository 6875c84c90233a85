-- Load for wrk: every request is another lead with all fields of a marketplace delivery, so none is a repeat.
-- wrk ... -- NAME OFFERS: NAME makes the addresses of this run differ from those of all others; the leads go round
-- OFFERS offers.  Without arguments it gets the URL.
-- Ends with a line for load.js: answers, those not 2xx, socket errors, microseconds, p50 ms, p99 ms.

local threads = 0

function setup(thread)
    thread:set("number", threads)
    threads = threads + 1
end

function init(args)
    if not args[1] then
        request = nil
        return
    end
    prefix = args[1] .. "-" .. number .. "-"
    offers = tonumber(args[2])
    sent = 0
    headers = { ["Content-Type"] = "application/json", ["Connection"] = "keep-alive" }
end

function request()
    sent = sent + 1
    local body = '{"UserDetails":{"FirstName":"Ana","LastName":"Test","Email":"' .. prefix .. sent ..
        '@example.com","Phone":"16175550100","Country":"US","Company":"Example","Title":"CTO"},' ..
        '"LeadSource":"AzureMarketplace-INS|exampleco.example-offer-' .. sent % offers .. '","ActionCode":"INS",' ..
        '"OfferTitle":"Example Offer","Description":"note"}'
    return wrk.format("POST", nil, headers, body)
end

function done(summary, latency)
    local e = summary.errors
    io.write(string.format("RESULT %d %d %d %d %.3f %.3f\n", summary.requests, e.status,
        e.connect + e.read + e.write + e.timeout, summary.duration,
        latency:percentile(50) / 1000, latency:percentile(99) / 1000))
end
