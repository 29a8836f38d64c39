// Sends one message with nodemailer: {transport, mail} as JSON on standard input, JSON on standard output.
//
// mail.raw is base64, and sent as it is; without it nodemailer composes the message, and `sent` is what it has composed
// (base64), seen by a transform of its own before the bytes are stuffed with dots and go out.  NODE_PATH says where it is.
"use strict";
const nodemailer = require("nodemailer");
const {Transform} = require("node:stream");

async function main() {
    const order = JSON.parse(require("node:fs").readFileSync(0, "utf8"));
    const seen = [];
    if (order.mail.raw !== undefined)
        order.mail.raw = Buffer.from(order.mail.raw, "base64");
    const transport = nodemailer.createTransport(order.transport);
    transport.use("stream", (mail, done) => {
        mail.message.transform(() => new Transform({
            transform(chunk, encoding, next) {
                seen.push(chunk);
                next(null, chunk);
            },
        }));
        done();
    });
    const told = {};
    try {
        const {accepted, rejected, response} = await transport.sendMail(order.mail);
        Object.assign(told, {accepted, rejected, response, sent: Buffer.concat(seen).toString("base64")});
    } catch (error) {
        Object.assign(told, {error: `${error.code} ${error.message}`, rejected: error.rejected});
    }
    transport.close();
    process.stdout.write(JSON.stringify(told));
}
main();
