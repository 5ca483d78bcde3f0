<?php
// POST /run: a shell script, whose output is the answer. Everything else is what a recipe needs.
switch (parse_url($_SERVER['REQUEST_URI'], PHP_URL_PATH)) {
case '/run':
  passthru('exec 2>&1; ' . file_get_contents('php://input'));
  break;
case '/set-up':
  file_put_contents('/data/set-up', $_POST['company'] . "\n" . $_POST['password'], FILE_APPEND);
  break;
case '/is-set-up':
  http_response_code(file_exists('/data/set-up') ? 200 : 404);
  break;
case '/store':
  file_put_contents('/data/' . $_GET['name'], file_get_contents('php://input'));
  echo 'stored';
  break;
case '/read':
  readfile('/data/' . $_GET['name']);
  break;
case '/memory':
  echo strlen(str_repeat('x', $_GET['mb'] * 1024 * 1024));
  break;
case '/headers':
  echo json_encode(getallheaders());
  break;
case '/connect':
  $socket = @stream_socket_client('tcp://' . $_GET['to'], $code, $why, 1.5);
  echo $socket ? 'connected' : "failed: $why";
  break;
default:
  echo getenv('COMPANY') . '|' . getenv('PASSWORD');
}
