// A client made of the OpenIGTLink library (Debian's libopenigtlink-dev), led line by line by a test.
//
// igtl_peer HOST PORT; then on standard input
//   STRING NAME TEXT | TRANSFORM NAME 12 numbers by rows | STATUS NAME CODE TEXT | GET_STATUS NAME | GET_TRANS NAME
//   | GET_POINT NAME | HEARD
// HEARD receives one message and prints it: type, name, content; every body is unpacked with its CRC checked.
// "BAD CRC" and "CLOSED" are what they say.
#include <cstring>
#include <iostream>
#include <sstream>
#include <string>

#include <igtlClientSocket.h>
#include <igtlMessageHeader.h>
#include <igtlPointMessage.h>
#include <igtlStatusMessage.h>
#include <igtlStringMessage.h>
#include <igtlTransformMessage.h>

static igtl::ClientSocket::Pointer link_;

template <class M> static void send(M message) {
    message->Pack();
    if (!link_->Send(message->GetPackPointer(), message->GetPackSize())) std::cout << "CLOSED" << std::endl;
}

template <class M> static bool unpacked(M message, igtl::MessageHeader::Pointer header) {
    message->SetMessageHeader(header);
    message->AllocatePack();
    if (message->GetPackBodySize() > 0)
        link_->Receive(message->GetPackBodyPointer(), message->GetPackBodySize());
    bool is_sound = message->Unpack(1) & igtl::MessageHeader::UNPACK_BODY;
    if (!is_sound) std::cout << "BAD CRC ";
    return is_sound;
}

static void heard() {
    igtl::MessageHeader::Pointer header = igtl::MessageHeader::New();
    header->InitPack();
    if (link_->Receive(header->GetPackPointer(), header->GetPackSize()) != header->GetPackSize()) {
        std::cout << "CLOSED" << std::endl;
        return;
    }
    header->Unpack();
    std::string type = header->GetDeviceType();
    std::ostringstream content;
    if (type == "TRANSFORM") {
        igtl::TransformMessage::Pointer m = igtl::TransformMessage::New();
        if (unpacked(m, header)) {
            igtl::Matrix4x4 matrix;
            m->GetMatrix(matrix);
            for (int row = 0; row < 3; row++)
                for (int column = 0; column < 4; column++) content << " " << matrix[row][column];
        }
    } else if (type == "POINT") {
        igtl::PointMessage::Pointer m = igtl::PointMessage::New();
        if (unpacked(m, header))
            for (int i = 0; i < m->GetNumberOfPointElement(); i++) {
                igtl::PointElement::Pointer point;
                m->GetPointElement(i, point);
                float x, y, z;
                point->GetPosition(x, y, z);
                content << " " << point->GetName() << "," << x << "," << y << "," << z;
            }
    } else if (type == "STATUS") {
        igtl::StatusMessage::Pointer m = igtl::StatusMessage::New();
        if (unpacked(m, header)) content << " " << m->GetCode() << " [" << m->GetErrorName() << "] " << m->GetStatusString();
    } else if (type == "STRING") {
        igtl::StringMessage::Pointer m = igtl::StringMessage::New();
        if (unpacked(m, header)) content << " " << m->GetEncoding() << " " << m->GetString();
    } else {
        link_->Skip(header->GetBodySizeToRead(), 0);
    }
    std::cout << type << " " << header->GetDeviceName() << content.str() << std::endl;
}

int main(int, char** words) {
    link_ = igtl::ClientSocket::New();
    if (link_->ConnectToServer(words[1], std::stoi(words[2])) != 0) {
        std::cout << "CLOSED" << std::endl;
        return 1;
    }
    std::cout.precision(9);
    link_->SetReceiveTimeout(20000);
    std::cout << "OPEN" << std::endl;
    for (std::string line; std::getline(std::cin, line);) {
        std::istringstream asked(line);
        std::string type, name, text;
        asked >> type >> name;
        if (type == "HEARD") heard();
        if (type == "STRING") {
            igtl::StringMessage::Pointer m = igtl::StringMessage::New();
            std::getline(asked >> std::ws, text);
            m->SetDeviceName(name.c_str());
            m->SetString(text.c_str());
            send(m);
        }
        if (type == "TRANSFORM") {
            igtl::TransformMessage::Pointer m = igtl::TransformMessage::New();
            igtl::Matrix4x4 matrix;
            igtl::IdentityMatrix(matrix);
            for (int row = 0; row < 3; row++)
                for (int column = 0; column < 4; column++) asked >> matrix[row][column];
            m->SetDeviceName(name.c_str());
            m->SetMatrix(matrix);
            send(m);
        }
        if (type == "STATUS") {
            igtl::StatusMessage::Pointer m = igtl::StatusMessage::New();
            int code;
            asked >> code;
            std::getline(asked >> std::ws, text);
            m->SetDeviceName(name.c_str());
            m->SetCode(code);
            m->SetStatusString(text.c_str());
            send(m);
        }
        if (type == "GET_STATUS") {
            igtl::GetStatusMessage::Pointer m = igtl::GetStatusMessage::New();
            m->SetDeviceName(name.c_str());
            send(m);
        }
        if (type == "GET_TRANS") {
            igtl::GetTransformMessage::Pointer m = igtl::GetTransformMessage::New();
            m->SetDeviceName(name.c_str());
            send(m);
        }
        if (type == "GET_POINT") {
            igtl::GetPointMessage::Pointer m = igtl::GetPointMessage::New();
            m->SetDeviceName(name.c_str());
            send(m);
        }
    }
    link_->CloseSocket();
    return 0;
}
